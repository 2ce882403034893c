"""Atrous spatial pyramid pooling: one map seen at several dilations and as a whole (DeepLab v3, 1706.05587)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torso.blocks._base import Block
from torso.bounds import BelowOne, Count
from torso.layers.conv import Activation, ConvNormAct, make_activation
from torso.layers.pooled_norm import PooledBatchNorm2d


class ASPP(Block):
    """Concatenation of a 1x1, a 3x3 for each rate and the map's mean, all `channels` wide, joined by a 1x1.

    Args:
        channels: width of every branch and of what comes out; None keeps the incoming width.
        rates: dilations of the 3x3 branches. The paper's 6, 12, 18 are for a map of stride 16: half as much covers
            the same pixels at stride 32, twice as much at stride 8.
        dropout: of the output, whole values (torchvision's DeepLab trains with 0.5).
        activation: behind the BatchNorm of every convolution.

    The mean is one value a place; with one image a batch its BatchNorm uses the stored statistics.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: Count | None = 256,
        rates: tuple[Count, ...] = (6, 12, 18),
        dropout: BelowOne = 0.0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.out_channels = width = channels or in_channels
        self.branches = nn.ModuleList([ConvNormAct(in_channels, width, kernel=1, norm="bn", activation=activation)])
        for rate in rates:
            self.branches.append(ConvNormAct(in_channels, width, dilation=rate, norm="bn", activation=activation))
        self.whole = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False), PooledBatchNorm2d(width), make_activation(activation)
        )
        self.project = ConvNormAct((len(rates) + 2) * width, width, kernel=1, norm="bn", activation=activation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        whole: Tensor = self.whole(x.mean(dim=(2, 3), keepdim=True))
        seen = [*(branch(x) for branch in self.branches), whole.expand(-1, -1, *x.shape[2:])]
        return self.dropout(self.project(torch.cat(seen, dim=1)))  # type: ignore[no-any-return]
