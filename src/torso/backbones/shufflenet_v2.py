"""ShuffleNetV2: half of the channels pass a block untouched, and halves are interleaved (arXiv 1807.11164)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso.backbones._stages import Staged
from torso.blocks._base import Block
from torso.bounds import Count, Even
from torso.layers.conv import ConvNormAct
from torso.parts import Part
from torso.types import FeatureSpec


class ShuffleNetV2(Staged):
    """Maps of strides 8, 16 and 32 behind a strided convolution and a max-pool.

    Args:
        stem: channels of the first convolution.
        widths: of the three stages, even. (48, 96, 192) is the paper's 0.5x, (116, 232, 464) its 1x.
        repeats: units a stage; the first halves the map.
        block: stands behind the stages of some maps, one of its own for each, before the next stage sees the map.
        block_strides: of those maps; none given means the block's own place, from stride 8 on.

    Of what comes to a block, even channels pass and odd ones are worked on: the paper's shuffle and split in one step,
    as in its authors' code. Pixels are RGB in 0..1 without mean and deviation, as FastestDet has them.
    """

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(
        self,
        *,
        stem: Count = 24,
        widths: tuple[Even, Even, Even] = (48, 96, 192),
        repeats: tuple[Count, Count, Count] = (4, 8, 4),
        block: Part[Block] | None = None,
        block_strides: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, stem, stride=2, norm="bn", activation="relu")
        self.stages = nn.ModuleList(
            nn.Sequential(_Down(a, b), *(_Keep(b) for _ in range(blocks - 1)))
            for (a, b), blocks in zip(itertools.pairwise((stem, *widths)), repeats, strict=True)
        )
        self.out_specs = tuple(FeatureSpec(w, (s, s)) for w, s in zip(widths, (8, 16, 32), strict=True))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        self.insert(block, block_strides, self.stages)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = F.max_pool2d(self.stem(pixels), 3, stride=2, padding=1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class _Keep(nn.Module):
    """[B, C, h, w] kept: half of the channels through a bottleneck of 1x1, depthwise 3x3, 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = _branch(channels // 2, channels // 2, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        passed, worked = x[:, 0::2], x[:, 1::2]
        return torch.cat([passed, self.main(worked)], dim=1)


class _Down(nn.Module):
    """[B, C, h, w] -> [B, C', h/2, w/2]: the bottleneck and, beside it, a depthwise 3x3 and a 1x1, on all channels."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.main = _branch(in_channels, channels // 2, stride=2)
        self.side = nn.Sequential(
            ConvNormAct(in_channels, in_channels, stride=2, groups=in_channels, norm="bn"),
            ConvNormAct(in_channels, channels // 2, kernel=1, norm="bn", activation="relu"),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.side(x), self.main(x)], dim=1)


def _branch(in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNormAct(in_channels, channels, kernel=1, norm="bn", activation="relu"),
        ConvNormAct(channels, channels, stride=stride, groups=channels, norm="bn"),
        ConvNormAct(channels, channels, kernel=1, norm="bn", activation="relu"),
    )
