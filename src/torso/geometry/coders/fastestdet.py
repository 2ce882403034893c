"""Centre by a tanh about a location, size as a share of the prior (https://github.com/dog-qiuqiu/FastestDet)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.geometry.boxes import full_precision
from torso.geometry.coders._base import Coder
from torso.types import Priors


class FastestDetCoder(Coder):
    """x = prior's x + tanh(tx) * stride, w = sigmoid(tw) * prior's width, likewise y and h.

    A code says centres within one stride and sizes up to the prior's; FastestDet's prior is as large as the image.
    """

    def encode(self, boxes: Tensor, priors: Priors) -> Tensor:
        boxes = full_precision(boxes)
        shift = ((boxes[..., :2] + boxes[..., 2:]) / 2 - priors.centers_xy) / priors.strides_xy
        share = (boxes[..., 2:] - boxes[..., :2]) / priors.sizes_wh
        return torch.cat([shift.clamp(-1 + 1e-6, 1 - 1e-6).atanh(), share.clamp(1e-6, 1 - 1e-6).logit()], dim=-1)

    def decode(self, codes: Tensor, priors: Priors) -> Tensor:
        codes = full_precision(codes)
        center = priors.centers_xy + codes[..., :2].tanh() * priors.strides_xy
        half = codes[..., 2:].sigmoid() * priors.sizes_wh / 2
        return torch.cat([center - half, center + half], dim=-1)

    def decode_variance(self, variance: Tensor, codes: Tensor, priors: Priors) -> Tensor:
        codes, variance = full_precision(codes), full_precision(variance)
        of_center = ((1 - codes[..., :2].tanh().square()) * priors.strides_xy).square() * variance[..., :2]
        share = codes[..., 2:].sigmoid()
        of_size = (share * (1 - share) * priors.sizes_wh).square() * variance[..., 2:]
        return torch.cat([of_center + of_size / 4] * 2, dim=-1)
