"""Pointwise attention: a gate for every value of a map (YOLOv4's change of CBAM's spatial gate, 2004.10934)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from torso.blocks._base import Block, Place
from torso.layers.conv import ConvNormAct, Norm


class SAM(Block):
    """x * sigmoid(norm(1x1(x))), without any pooling.

    norm: of the 1x1 convolution; darknet's is BatchNorm.
    """

    place: ClassVar[Place] = "all"

    def __init__(self, in_channels: int, *, norm: Norm = "bn") -> None:
        super().__init__()
        self.out_channels = in_channels
        self.conv = ConvNormAct(in_channels, in_channels, kernel=1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.conv(x).sigmoid()
        return x * gate
