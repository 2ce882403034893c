"""Centre relative to a cell, square roots of the sizes, all linear (YOLOv1, arXiv 1506.02640)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.geometry.boxes import full_precision
from torso.geometry.coders._base import Coder
from torso.types import Priors


class GridCoder(Coder):
    """x = (cell + tx) * stride, w = tw^2 * the prior's width, likewise y and h.

    The paper's sizes are shares of the image, so its priors are boxes as large as the image. tw's sign is lost.
    """

    def encode(self, boxes: Tensor, priors: Priors) -> Tensor:
        boxes = full_precision(boxes)
        center = (boxes[..., :2] + boxes[..., 2:]) / 2
        share = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0) / priors.sizes_wh
        return torch.cat([center / priors.strides_xy - self._cell(priors), share.sqrt()], dim=-1)

    def decode(self, codes: Tensor, priors: Priors) -> Tensor:
        codes = full_precision(codes)
        center = (self._cell(priors) + codes[..., :2]) * priors.strides_xy
        half = codes[..., 2:].square() * priors.sizes_wh / 2
        return torch.cat([center - half, center + half], dim=-1)

    def decode_variance(self, variance: Tensor, codes: Tensor, priors: Priors) -> Tensor:
        codes, variance = full_precision(codes), full_precision(variance)
        of_center = priors.strides_xy.square() * variance[..., :2]
        of_corner = of_center + (codes[..., 2:] * priors.sizes_wh).square() * variance[..., 2:]
        return torch.cat([of_corner, of_corner], dim=-1)

    def _cell(self, priors: Priors) -> Tensor:
        return (priors.centers_xy / priors.strides_xy).floor()
