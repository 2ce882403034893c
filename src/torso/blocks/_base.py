"""The contract of a block: one map in, one map of the same size out; and where blocks go when nobody says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, cast

from torch import Tensor, nn

from torso.parts import Part, produced
from torso.plain_values import Checked
from torso.types import FeatureSpec

Place = Literal["coarsest", "finest", "all"]


class Block(Checked, nn.Module):
    """[B, C, h, w] -> [B, C', h, w]; built as Block(in_channels, ...), publishes out_channels (C').

    place: the levels that get one each when no strides are given. The coarsest for what gathers context and for what
    costs the square of the number of places; the finest for what sharpens a shallow map; all for light gates.
    """

    place: ClassVar[Place] = "coarsest"
    out_channels: int

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


def places(
    specs: Sequence[FeatureSpec], block: Part[Block], strides: Sequence[int], *, finest: int, who: str, argument: str
) -> list[int]:
    """Positions of the levels that get a block: those of the strides given, else the block's own place.

    The own place is looked for among the levels of stride `finest` and coarser: what lies below feeds no head, and a
    block there would cost and never learn. A level with unequal strides counts by the smaller, and cannot be named.
    Raises ValueError, naming the level, what there is, and the remedy; `argument` is what its owner calls `strides`.
    """
    offered = [s.stride_yx[0] if s.stride_yx[0] == s.stride_yx[1] else s.stride_yx for s in specs]
    made = cast("type[Block]", produced(block))
    name = made.__name__
    for stride in strides:
        if offered.count(stride) != 1 or list(strides).count(stride) != 1:
            raise ValueError(
                f"{who} cannot put {name} at stride {stride}: the levels here have strides {offered}; "
                "name each of them at most once, or choose a backbone or a neck that makes that level"
            )
    if strides:
        return [i for i, stride in enumerate(offered) if stride in strides]
    eligible = [i for i, s in enumerate(specs) if min(s.stride_yx) >= finest]
    if not eligible:
        raise ValueError(
            f"{who} puts {name} at strides from {finest} on, but the levels here have strides {offered}; "
            f"say where it goes: {argument}={offered[-1]}"
        )
    return {"coarsest": eligible[-1:], "finest": eligible[:1], "all": eligible}[made.place]
