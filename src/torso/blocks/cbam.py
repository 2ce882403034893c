"""Convolutional block attention: a gate a channel, then a gate a place (CBAM, 1807.06521)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from torso.blocks._base import Block, Place
from torso.blocks.channel_attention import ChannelAttention
from torso.blocks.spatial_attention import SpatialAttention
from torso.bounds import Count, Odd
from torso.layers.conv import Norm


class CBAM(Block):
    """spatial(channel(x)): in this order, which the paper found to be the better one.

    reduction: of the channel gate's mlp. kernel, norm: of the spatial gate's convolution.
    """

    place: ClassVar[Place] = "all"

    def __init__(self, in_channels: int, *, reduction: Count = 16, kernel: Odd = 7, norm: Norm = "bn") -> None:
        super().__init__()
        self.out_channels = in_channels
        self.channel = ChannelAttention(in_channels, reduction=reduction)
        self.spatial = SpatialAttention(in_channels, kernel=kernel, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.spatial(self.channel(x))  # type: ignore[no-any-return]
