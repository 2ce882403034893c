"""FastestDet's neck: three levels on the middle one, chains of 5x5 (https://github.com/dog-qiuqiu/FastestDet)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso.bounds import Count, Odd
from torso.layers.conv import ConvNormAct
from torso.necks._base import Neck
from torso.types import FeatureSpec


class FastestDet(Neck):
    """One map: the finer level averaged down, the coarser one enlarged, a 1x1 over all; then what it calls SPP.

    That is one, two and three depthwise 5x5 in a row (which see 5, 9 and 13 places, as the pools of SPP do) beside each
    other, a 1x1 over the three, and the sum with what came; at the end a 1x1, the head's stem.

    Args:
        stride: of the map that leaves; levels of half and of twice that stride must come too.
        channels: of everything behind the gathering.
        kernel: of the depthwise convolutions, odd.
    """

    def __init__(
        self, in_specs: Sequence[FeatureSpec], *, stride: int = 16, channels: Count = 96, kernel: Odd = 5
    ) -> None:
        super().__init__()
        strides = [s.stride for s in in_specs]
        wanted = [stride // 2, stride, stride * 2]
        if not set(wanted) <= set(strides):
            raise ValueError(
                f"FastestDet gathers the levels of strides {wanted}, got strides {strides}: choose another stride or "
                "backbone"
            )
        self._positions = [strides.index(s) for s in wanted]
        self.gather = _conv(sum(in_specs[i].channels for i in self._positions), channels)
        self.chains = nn.ModuleList(
            nn.Sequential(*(_conv(channels, channels, kernel=kernel, groups=channels) for _ in range(length)))
            for length in (1, 2, 3)
        )
        self.mix = ConvNormAct(3 * channels, channels, kernel=1, norm="bn")
        self.out = _conv(channels, channels)
        self.out_specs = (FeatureSpec(channels, (stride, stride)),)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        fine, middle, coarse = (features[i] for i in self._positions)
        size = middle.shape[-2:]
        fine = F.avg_pool2d(fine, 3, stride=2, padding=1)[..., : size[0], : size[1]]
        x: Tensor = self.gather(torch.cat([fine, middle, F.interpolate(coarse, size=size, mode="nearest")], dim=1))
        y = self.mix(torch.cat([chain(x) for chain in self.chains], dim=1))
        return [self.out(F.relu(x + y))]


def _conv(in_channels: int, channels: int, *, kernel: int = 1, groups: int = 1) -> ConvNormAct:
    return ConvNormAct(in_channels, channels, kernel=kernel, groups=groups, norm="bn", activation="relu")
