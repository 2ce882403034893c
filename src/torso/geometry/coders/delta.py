"""Centre shifts and log sizes relative to an anchor (R-CNN, arXiv 1311.2524; Faster R-CNN, 1506.01497)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torso.bounds import Exponent, Positive
from torso.geometry.boxes import full_precision
from torso.geometry.coders._base import Coder
from torso.types import Priors


class DeltaCoder(Coder):
    """dx = wx (x - xa) / wa, dw = ww log(w / wa), likewise dy, dh.

    Args:
        weights: (wx, wy, ww, wh); Faster R-CNN's second stage has (10, 10, 5, 5), the others ones.
        max_log_ratio: dw and dh are clamped from above before exp (log(1000 / 16) by default: without it a random
            head overflows); the gradient stops there.
    """

    def __init__(
        self,
        *,
        weights: tuple[Positive, Positive, Positive, Positive] = (1.0, 1.0, 1.0, 1.0),
        max_log_ratio: Exponent = math.log(1000.0 / 16),
    ) -> None:
        self.weights, self.max_log_ratio = weights, max_log_ratio

    def encode(self, boxes: Tensor, priors: Priors) -> Tensor:
        boxes = full_precision(boxes)
        wx, wy, ww, wh = self.weights
        tiny = torch.finfo(boxes.dtype).tiny
        center = (boxes[..., :2] + boxes[..., 2:]) / 2
        size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=tiny)  # a degenerate box must not become -inf
        shift = (center - priors.centers_xy) / priors.sizes_wh
        scale = torch.log(size / priors.sizes_wh)
        return torch.stack([wx * shift[..., 0], wy * shift[..., 1], ww * scale[..., 0], wh * scale[..., 1]], dim=-1)

    def decode(self, codes: Tensor, priors: Priors) -> Tensor:
        dx, dy, dw, dh = self._unweighted(codes)
        w, h = priors.sizes_wh.unbind(-1)
        x, y = priors.centers_xy.unbind(-1)
        cx, cy = x + dx * w, y + dy * h
        half_w, half_h = torch.exp(dw) * w / 2, torch.exp(dh) * h / 2
        return torch.stack([cx - half_w, cy - half_h, cx + half_w, cy + half_h], dim=-1)

    def decode_variance(self, variance: Tensor, codes: Tensor, priors: Priors) -> Tensor:
        vx, vy, vw, vh = (v / k**2 for v, k in zip(full_precision(variance).unbind(-1), self.weights, strict=True))
        _, _, dw, dh = self._unweighted(codes)
        wa, ha = priors.sizes_wh.unbind(-1)
        x = wa**2 * vx + (torch.exp(dw) * wa) ** 2 / 4 * vw
        y = ha**2 * vy + (torch.exp(dh) * ha) ** 2 / 4 * vh
        return torch.stack([x, y, x, y], dim=-1)

    def _unweighted(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wx, wy, ww, wh = self.weights
        dx, dy, dw, dh = full_precision(codes).unbind(-1)
        limit = self.max_log_ratio
        return dx / wx, dy / wy, (dw / ww).clamp(max=limit), (dh / wh).clamp(max=limit)
