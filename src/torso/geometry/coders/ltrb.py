"""Distances from a point to the four sides of a box (FCOS, arXiv 1904.01355)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.bounds import Exponent
from torso.geometry.boxes import full_precision
from torso.geometry.coders._base import Coder
from torso.types import Priors

Distances = Literal["exp", "relu", "none"]


class LTRBCoder(Coder):
    """distance = transform(code) * stride, in the order left, top, right, bottom.

    Args:
        transform: "exp" (the FCOS paper), "relu" (its later form, and torchvision) or "none" (the code is the distance
            in strides and may be negative).
        max_exponent: codes are clamped from above before exp, so that float32 cannot overflow.

    The paper's exp is not multiplied by the stride; its learnable scale per level learns the factor. With the stride
    in the code the scales start at 1 and one weight file serves any level.
    """

    def __init__(self, *, transform: Distances = "exp", max_exponent: Exponent = 8.0) -> None:
        self.transform, self.max_exponent = transform, max_exponent
        self.holds_center = transform != "none"

    def encode(self, boxes: Tensor, priors: Priors) -> Tensor:
        boxes = full_precision(boxes)
        point, stride = priors.centers_xy, priors.strides_xy
        distances = torch.cat([(point - boxes[..., :2]) / stride, (boxes[..., 2:] - point) / stride], dim=-1)
        if self.transform == "exp":
            return torch.log(distances.clamp(min=torch.finfo(boxes.dtype).eps))
        return distances

    def decode(self, codes: Tensor, priors: Priors) -> Tensor:
        distances, stride, point = self._distances(codes), priors.strides_xy, priors.centers_xy
        return torch.cat([point - distances[..., :2] * stride, point + distances[..., 2:] * stride], dim=-1)

    def decode_variance(self, variance: Tensor, codes: Tensor, priors: Priors) -> Tensor:
        slope = torch.ones_like(full_precision(codes))
        if self.transform == "exp":
            slope = self._distances(codes)
        elif self.transform == "relu":
            slope = (codes > 0).to(slope)
        stride = torch.cat([priors.strides_xy, priors.strides_xy], dim=-1)
        return full_precision(variance) * (slope * stride) ** 2

    def _distances(self, codes: Tensor) -> Tensor:
        codes = full_precision(codes)
        if self.transform == "exp":
            return torch.exp(codes.clamp(max=self.max_exponent))
        return F.relu(codes) if self.transform == "relu" else codes
