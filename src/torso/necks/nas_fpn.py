"""NAS-FPN: a searched graph of seven merging cells over five levels, stacked (Ghiasi et al. 2019, arXiv 1904.07392)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from torso.bounds import Count
from torso.layers.conv import Activation, Norm
from torso.necks._base import Neck, levels_between
from torso.necks._extra import PooledLevels
from torso.necks._move import move, size_of
from torso.necks._preact import PreActConv, lateral
from torso.types import FeatureSpec

Gate = Literal["max_from_coarser", "avg_from_finer"]


class _Cell(NamedTuple):
    """A merging cell: the position of its level, whether it gates, its inputs, and a map added as it is.

    Maps 0-4 are the levels that come, 5-11 the cells in order. The extra summands are the paper's rule that an output
    takes up the maps of its level that nobody has used: P5 and P7.
    """

    level: int
    gated: bool
    inputs: tuple[int, int]
    also: int | None = None


CELLS = (
    _Cell(1, True, (1, 3)),
    _Cell(1, False, (1, 5)),
    _Cell(0, False, (0, 6)),  # P3
    _Cell(1, False, (6, 7)),  # P4
    _Cell(2, True, (7, 8), also=2),  # P5
    _Cell(4, True, (6, 9), also=4),  # P7
    _Cell(3, True, (9, 10)),  # P6
)
OUTPUTS = (7, 8, 9, 11, 10)


def gated(finer: Tensor, coarser: Tensor, gate: Gate) -> Tensor:
    """Both maps [B, C, h, w] already of the cell's size; one is weighed by a pooled value a channel of the other."""
    if gate == "max_from_coarser":
        return coarser + finer * coarser.amax((2, 3), keepdim=True).sigmoid()
    return finer + coarser * finer.mean((2, 3), keepdim=True).sigmoid()


class NASFPN(Neck):
    """Five levels P3-P7 through `repeats` stacks of the paper's graph; 4,134,144 parameters a stack at 256 channels.

    Args:
        channels: width of every level. repeats: stacks (7 in the paper; 5 in the TensorFlow model garden).
        finest, coarsest: strides of the first and the last level, coarsest = 16 * finest: the graph has five levels.
        gate: of the cells that pool globally. "max_from_coarser" is the authors' code: H + L * sigmoid(max(H)), H the
            input of the coarser level and L the other; "avg_from_finer" is mmdetection's: L + H * sigmoid(avg(L)).
        norm, activation: each cell ends with activation, 3x3 convolution with bias, norm.

    A 1x1 and norm on levels of another width; levels beyond the backbone's are 2x2 max-poolings of the last. In cells
    maps go down by max-pooling and up to the nearest, to the level's own size: odd sizes work, though below multiples
    of the coarsest stride the windows at the border are not whole.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        channels: Count = 256,
        repeats: Count = 7,
        finest: int = 8,
        coarsest: int = 128,
        gate: Gate = "max_from_coarser",
        norm: Norm = "bn_tf",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self._positions = levels_between(in_specs, finest, coarsest, type(self).__name__)
        incoming = [in_specs[i] for i in self._positions]
        self.lateral = nn.ModuleList(lateral(s.channels, channels, norm=norm) for s in incoming)
        self.extra = PooledLevels(project=nn.Identity(), stride=incoming[-1].stride, coarsest=coarsest, overlap=0)
        strides = [s.stride for s in incoming] + self.extra.strides
        _check_five(strides, finest, [s.stride for s in in_specs])
        self.stacks = nn.ModuleList(
            _Stack(strides, channels, gate=gate, norm=norm, activation=activation) for _ in range(repeats)
        )
        self.out_specs = tuple(FeatureSpec(channels, (s, s)) for s in strides)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, mode="fan_out")
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        maps = [conv(features[i]) for conv, i in zip(self.lateral, self._positions, strict=True)]
        maps = [*maps, *self.extra(maps[-1])]
        for stack in self.stacks:
            maps = stack(maps)
        return maps


class _Stack(nn.Module):
    """The graph once: five maps in, five maps out."""

    def __init__(
        self, strides: Sequence[int], channels: int, *, gate: Gate, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        self.gate = gate
        self.strides = [*strides, *(strides[cell.level] for cell in CELLS)]
        self.cells = nn.ModuleList(
            PreActConv(channels, separable=False, norm=norm, activation=activation, bias=True) for _ in CELLS
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        known = list(maps)
        for cell, conv in zip(CELLS, self.cells, strict=True):
            size, target = size_of(maps[cell.level]), self.strides[cell.level]
            a, b = (move(known[i], self.strides[i], target, size, overlap=0) for i in cell.inputs)
            if not cell.gated:
                merged = a + b
            else:
                first_is_finer = self.strides[cell.inputs[0]] < self.strides[cell.inputs[1]]
                merged = gated(a, b, self.gate) if first_is_finer else gated(b, a, self.gate)
            if cell.also is not None:
                merged = merged + known[cell.also]
            known.append(conv(merged))
        return [known[i] for i in OUTPUTS]


def _check_five(strides: Sequence[int], finest: int, offered: Sequence[int]) -> None:
    wanted = [finest * 2**i for i in range(5)]
    if list(strides) != wanted:
        raise ValueError(
            f"NASFPN's graph has five levels, here of strides {wanted}; with what the backbone offers ({list(offered)})"
            f" they would be {list(strides)}: set coarsest={16 * finest}, or a finest from which every doubling up to "
            "the backbone's last is offered, or choose another neck (bifpn takes any levels)"
        )
