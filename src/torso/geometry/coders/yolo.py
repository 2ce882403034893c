"""Centre within a cell by a sigmoid, size relative to an anchor (YOLOv2 1612.08242, v3 1804.02767, v4 2004.10934)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import MinLen
from torch import Tensor

from torso.bounds import AtLeastOne, Count, Exponent
from torso.geometry.boxes import full_precision
from torso.geometry.coders._base import Coder
from torso.types import Priors

Sizes = Literal["exp", "square"]


class YOLOCoder(Coder):
    """x = (cell + s * sigmoid(tx) - (s - 1) / 2) * stride, likewise y, for the cell that the prior's centre lies in.

    Args:
        scale_xy: s: 1 in YOLOv2 and v3; at 2 (YOLOv5, -0.5 .. 1.5) a cell reaches into its neighbours. YOLOv4 has one a
            level, as (stride, s) pairs: ((8, 1.2), (16, 1.1), (32, 1.05)); levels not named have 1.
        size: "exp", anchor * e^t (v2 to v4), or "square", anchor * (2 sigmoid(t))^2, at most four anchors (v5).
        max_log_ratio: t is clamped from above before exp; the gradient stops there.
    """

    def __init__(
        self,
        *,
        scale_xy: AtLeastOne | Annotated[tuple[tuple[Count, AtLeastOne], ...], MinLen(1)] = 1.0,
        size: Sizes = "exp",
        max_log_ratio: Exponent = math.log(1000.0 / 16),
    ) -> None:
        self.scale_xy, self.size, self.max_log_ratio = scale_xy, size, max_log_ratio

    def encode(self, boxes: Tensor, priors: Priors) -> Tensor:
        boxes = full_precision(boxes)
        scale = self._scale(priors)
        center = (boxes[..., :2] + boxes[..., 2:]) / 2 / priors.strides_xy
        xy = _logit((center - _cell(priors) + (scale - 1) / 2) / scale)
        ratio = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-6) / priors.sizes_wh
        wh = ratio.log() if self.size == "exp" else _logit(ratio.sqrt() / 2)
        return torch.cat([xy, wh], dim=-1)

    def decode(self, codes: Tensor, priors: Priors) -> Tensor:
        codes, scale = full_precision(codes), self._scale(priors)
        center = (_cell(priors) + scale * codes[..., :2].sigmoid() - (scale - 1) / 2) * priors.strides_xy
        half = self._sizes(codes, priors) / 2
        return torch.cat([center - half, center + half], dim=-1)

    def decode_variance(self, variance: Tensor, codes: Tensor, priors: Priors) -> Tensor:
        codes, variance = full_precision(codes), full_precision(variance)
        share = codes[..., :2].sigmoid()
        of_center = (self._scale(priors) * share * (1 - share) * priors.strides_xy).square() * variance[..., :2]
        slope = self._sizes(codes, priors)
        if self.size == "square":
            slope = slope * 2 * (1 - codes[..., 2:].sigmoid())
        of_corner = of_center + slope.square() / 4 * variance[..., 2:]
        return torch.cat([of_corner, of_corner], dim=-1)

    def _sizes(self, codes: Tensor, priors: Priors) -> Tensor:
        if self.size == "exp":
            return codes[..., 2:].clamp(max=self.max_log_ratio).exp() * priors.sizes_wh
        return (2 * codes[..., 2:].sigmoid()).square() * priors.sizes_wh

    def _scale(self, priors: Priors) -> Tensor | float:
        if not isinstance(self.scale_xy, tuple):
            return self.scale_xy
        scale = torch.ones_like(priors.strides_xy)
        for stride, value in self.scale_xy:
            scale = torch.where(priors.strides_xy == stride, value, scale)
        return scale


def _cell(priors: Priors) -> Tensor:
    """[..., 2] column and row; anchors stand at their cell's corner or in its middle, so it is rounded down."""
    return (priors.centers_xy / priors.strides_xy).floor()


def _logit(share: Tensor) -> Tensor:
    return share.clamp(1e-6, 1 - 1e-6).logit()
