"""Distances to the four sides as means of learnt distributions (GFL's integral form, arXiv 2006.04388)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.bounds import Count, NotNegative
from torso.errors import mismatch
from torso.geometry.boxes import full_precision
from torso.geometry.coders._base import Coder
from torso.types import Priors


class DistributionCoder(Coder):
    """distance = sum_i i * softmax(code)_i strides, i in 0..reg_max, for left, top, right, bottom.

    Args:
        reg_max: largest distance in strides; GFL 16, which is 17 bins a side (16 bins of YOLOv8: 15).
        margin: targets stay so far below reg_max that they lie between two bins (GFL 0.1, YOLOv8 0.01).

    Codes are [..., 4 * (reg_max + 1)] logits, side by side. encode gives the two bins about each distance, as the dfl
    loss wants them; a side farther than reg_max strides, or on the wrong side of the point, cannot be represented.
    """

    holds_center = True

    def __init__(self, *, reg_max: Count = 16, margin: NotNegative = 0.1) -> None:
        if margin >= reg_max:
            raise mismatch("DistributionCoder.margin", f"a number below reg_max={reg_max}", margin)
        self.reg_max, self.margin = reg_max, margin
        self.bins = reg_max + 1
        self.width = 4 * self.bins

    def encode(self, boxes: Tensor, priors: Priors) -> Tensor:
        distances = self._strides_to(full_precision(boxes), priors).clamp(0, self.reg_max)
        bins = torch.arange(self.bins, device=boxes.device).to(distances)
        share = (1 - (distances[..., None] - bins).abs()).clamp(min=1e-12)  # a logit must stay finite
        return share.log().flatten(-2)

    def decode(self, codes: Tensor, priors: Priors) -> Tensor:
        _, distances = self._shares(codes)
        point, stride = priors.centers_xy, priors.strides_xy
        return torch.cat([point - distances[..., :2] * stride, point + distances[..., 2:] * stride], dim=-1)

    def decode_variance(self, variance: Tensor, codes: Tensor, priors: Priors) -> Tensor:
        """variance [..., N, 4 * bins] of independent logits."""
        shares, distances = self._shares(codes)
        bins = torch.arange(self.bins, device=codes.device).to(distances)
        slope = shares * (bins - distances[..., None])
        of_logits = full_precision(variance)
        of_logits = of_logits.reshape(*of_logits.shape[:-1], 4, self.bins)
        stride = torch.cat([priors.strides_xy, priors.strides_xy], dim=-1)
        return (slope.square() * of_logits).sum(-1) * stride.square()

    def bin_targets(self, boxes: Tensor, priors: Priors) -> Tensor:
        return self._strides_to(full_precision(boxes), priors).clamp(0, self.reg_max - self.margin)

    def _strides_to(self, boxes: Tensor, priors: Priors) -> Tensor:
        point, stride = priors.centers_xy, priors.strides_xy
        return torch.cat([(point - boxes[..., :2]) / stride, (boxes[..., 2:] - point) / stride], dim=-1)

    def _shares(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Shares [..., 4, bins] and their means [..., 4]."""
        codes = full_precision(codes)
        shares = codes.reshape(*codes.shape[:-1], 4, self.bins).softmax(-1)
        return shares, (shares * torch.arange(self.bins, device=codes.device).to(codes)).sum(-1)
