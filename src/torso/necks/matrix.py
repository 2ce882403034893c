"""MatrixNet: a matrix of levels whose height and width are halved apart (Rashwan et al. 2019, arXiv 1908.04646)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from torso.bounds import Count, Whole
from torso.layers.conv import Activation, Norm
from torso.necks._base import Neck, check_doubling, initialise_linear, levels_between
from torso.necks._extra import ExtraKind
from torso.necks.fpn import FPN
from torso.types import FeatureSpec


class Matrix(Neck):
    """Levels with strides (2^i, 2^j), so that a long box looks like a square one on some level.

    Args:
        channels: width of every level.
        finest, coarsest: strides of the first and the last level of the diagonal, where both strides are equal.
        band: how many halvings the two strides of a level may lie apart. 2 leaves 19 of 5 x 5 levels (the paper's: it
            prunes the corners), 0 the diagonal alone.
        diagonal: "fpn" makes the diagonal as FPN does; "incoming" takes the levels that come, behind another neck.
        extra: what makes the diagonal's levels beyond the backbone's, as in FPN (the authors' code: "conv_c5").
        norm, activation: of the diagonal's convolutions (none in the paper).

    Right of the diagonal the width is halved again and again by one 3x3 convolution of stride (1, 2), below it the
    height by one of stride (2, 1): two convolutions serve the whole matrix. Levels come out by area of their stride,
    then the squarest first. Dense heads take unequal strides; parts that need equal ones refuse them.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        channels: Count = 256,
        finest: int = 8,
        coarsest: int = 128,
        band: Whole = 2,
        diagonal: Literal["fpn", "incoming"] = "fpn",
        extra: ExtraKind = "conv_p5",
        norm: Norm = "none",
        activation: Activation = "none",
    ) -> None:
        super().__init__()
        positions = levels_between(in_specs, finest, coarsest, type(self).__name__)
        self.fpn: FPN | None = None
        if diagonal == "fpn":
            self.fpn = FPN(
                in_specs,
                channels=channels,
                finest=finest,
                coarsest=coarsest,
                extra=extra,
                norm=norm,
                activation=activation,
            )
            specs: Sequence[FeatureSpec] = self.fpn.out_specs
            self._positions = list(range(len(specs)))
        else:
            self._positions = positions
            specs = [in_specs[i] for i in self._positions]
            _check_width(specs, channels)
        check_doubling(specs, type(self).__name__)
        strides = [s.stride for s in specs]
        n = len(strides)
        cells = [(i, j) for i in range(n) for j in range(n) if abs(i - j) <= band]
        self._cells = sorted(cells, key=lambda ij: (sum(ij), abs(ij[0] - ij[1]), ij))
        apart = band > 0 and n > 1
        self.halve_width = nn.Conv2d(channels, channels, 3, stride=(1, 2), padding=1) if apart else None
        self.halve_height = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1) if apart else None
        self.out_specs = tuple(FeatureSpec(channels, (strides[i], strides[j])) for i, j in self._cells)
        self._came_normed = diagonal == "incoming" and all(s.normed for s in specs)
        initialise_linear(self)

    @property
    def published(self) -> tuple[FeatureSpec, ...]:
        """A diagonal that comes has the scale that it came with."""
        return tuple(s._replace(normed=True) for s in self.out_specs) if self._came_normed else super().published

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        levels = features if self.fpn is None else self.fpn(features)
        diagonal = [levels[i] for i in self._positions]
        x = {(i, i): m for i, m in enumerate(diagonal)}
        for i, j in sorted(self._cells, key=lambda ij: abs(ij[0] - ij[1])):  # from the diagonal outwards
            if j > i:
                assert self.halve_width is not None
                x[i, j] = self.halve_width(x[i, j - 1])
            elif i > j:
                assert self.halve_height is not None
                x[i, j] = self.halve_height(x[i - 1, j])
        return [x[cell] for cell in self._cells]


def _check_width(specs: Sequence[FeatureSpec], channels: int) -> None:
    """ValueError where incoming levels are not as wide as the matrix."""
    if any(s.channels != channels for s in specs):
        raise ValueError(
            f"Matrix takes incoming levels as its diagonal where all have {channels} channels; "
            f"{[s.channels for s in specs]} came: set channels, or diagonal='fpn'"
        )
