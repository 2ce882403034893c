"""One gate a place, from the mean and the maximum over channels (the spatial half of CBAM, 1807.06521)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from torso.blocks._base import Block, Place
from torso.bounds import Odd
from torso.layers.conv import ConvNormAct, Norm


class SpatialAttention(Block):
    """x * sigmoid(norm(conv([mean; max]))), with [mean; max] of [B, 2, h, w].

    kernel: of the convolution, odd. norm: behind it (the authors' code has BatchNorm, their text none).
    """

    place: ClassVar[Place] = "all"

    def __init__(self, in_channels: int, *, kernel: Odd = 7, norm: Norm = "bn") -> None:
        super().__init__()
        self.out_channels = in_channels
        self.conv = ConvNormAct(2, 1, kernel=kernel, norm=norm, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        gate: Tensor = self.conv(seen).sigmoid()
        return x * gate
