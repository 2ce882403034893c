"""Fine places as further channels of a coarse map, YOLOv2's neck (Redmon, Farhadi 2016, YOLO9000, arXiv 1612.08242)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso.bounds import Count, Whole
from torso.errors import PartError
from torso.layers.conv import Activation, ConvNormAct, Norm
from torso.necks._base import Neck
from torso.types import FeatureSpec


class Passthrough(Neck):
    """One level: [blocks of the finer map behind a 1x1, the coarse map behind 3x3 convolutions].

    Args:
        finest, coarsest: strides of the two maps; the level that leaves has the coarse one's.
        narrow: width of the finer map behind its 1x1; each block of b x b places becomes narrow * b * b channels.
        channels: width of the 3x3 convolutions on the coarse map. convs: how many there are.
        norm, activation: of all convolutions.

    A finer map of odd sides is filled with zeros to whole blocks; where the backbone rounded the coarse one down, the
    row or column too many is left out. Blocks run row by row (space to depth); darknet's reorg layer mixes channels and
    places in an order of its own, which permutes the inputs of the convolution behind it.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        finest: int = 16,
        coarsest: int = 32,
        narrow: Count = 64,
        channels: Count = 1024,
        convs: Whole = 2,
        norm: Norm = "bn",
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        self._positions = _two_levels([s.stride for s in in_specs], finest, coarsest)
        fine, coarse = (in_specs[i] for i in self._positions)
        self.block = coarse.stride // fine.stride
        self.narrow = ConvNormAct(fine.channels, narrow, kernel=1, norm=norm, activation=activation)
        widths = [coarse.channels] + [channels] * convs
        self.convs = nn.Sequential(
            *(ConvNormAct(a, b, norm=norm, activation=activation) for a, b in itertools.pairwise(widths))
        )
        self.out_specs = (FeatureSpec(narrow * self.block**2 + widths[-1], coarse.stride_yx),)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        fine, coarse = (features[i] for i in self._positions)
        height, width = (self.block * int(side) for side in coarse.shape[-2:])
        fine = self.narrow(fine)
        fine = F.pad(fine, (0, width - int(fine.shape[-1]), 0, height - int(fine.shape[-2])))
        blocks = F.pixel_unshuffle(fine, self.block)
        return [torch.cat([blocks, self.convs(coarse)], dim=1)]


def _two_levels(strides: list[int], finest: int, coarsest: int) -> list[int]:
    """Positions of the two; ValueError, naming the argument that is wrong and a value that works."""
    if finest in strides and coarsest in strides and coarsest % finest == 0:
        return [strides.index(finest), strides.index(coarsest)]
    coarse = coarsest if coarsest in strides[1:] else strides[-1]
    finer = [s for s in strides if s < coarse and coarse % s == 0] or [coarse]
    fine = finest if finest in finer else finer[-1]
    both = ("neck.coarsest", coarsest, coarse), ("neck.finest", finest, fine)
    wrong = {path: to for path, given, to in both if given != to}
    raise PartError(
        f"Passthrough takes the incoming levels of strides finest={finest} and coarsest={coarsest}, the second a "
        f"multiple of the first, and gives one level of the second; the levels here have strides {strides}",
        remedies=[{**wrong, "head.finest": coarse}],
    )
