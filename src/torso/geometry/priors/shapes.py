"""Anchor shapes written out, (width, height) in pixels, a list a level (YOLOv2's clusters, arXiv 1612.08242)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from annotated_types import MinLen

from torso.bounds import Positive
from torso.geometry.priors._base import PriorGenerator, StrideFrom, place_anchors
from torso.types import Priors


class Shapes(PriorGenerator):
    """The same shapes at every location of a level; `torso anchors DIR` fits them to the boxes of a data set.

    Args:
        sizes: for each level, fine to coarse, its (width, height) in input pixels; levels may have different numbers
            of them (an unshared head wants that). None: one square of four strides a level.
        offset: of the centres, in strides (0.5 is the middle of the cell).
        stride_from: "feature" uses the level's nominal stride; "image" the padded image size // map size, which
            differs where a map was rounded up.
    """

    def __init__(
        self,
        strides_yx: Sequence[tuple[int, int]],
        *,
        sizes: tuple[Annotated[tuple[tuple[Positive, Positive], ...], MinLen(1)], ...] | None = None,
        offset: float = 0.5,
        stride_from: StrideFrom = "feature",
    ) -> None:
        strides = [(s[0], s[1]) for s in strides_yx]
        if sizes is None:
            sizes = tuple(((4.0 * sx, 4.0 * sy),) for sy, sx in strides)
        if len(sizes) != len(strides):
            raise ValueError(
                f"Shapes.sizes has {len(sizes)} levels, but the head reads {len(strides)}, of strides (y, x) "
                f"{strides}: give one list of (width, height) for each, fine to coarse"
            )
        super().__init__(sizes)
        self.strides_yx = strides
        self.offset, self.stride_from = offset, stride_from

    @classmethod
    def levels_written(cls, args: Mapping[str, Any]) -> dict[str, int]:
        return {} if args.get("sizes") is None else {"sizes": len(args["sizes"])}

    def forward(self, sizes_hw: Sequence[tuple[int, int]], image_hw: tuple[int, int]) -> Priors:
        strides = self.strides_yx if self.stride_from == "feature" else None
        return place_anchors(self.shapes(), sizes_hw, image_hw, strides, self.offset)
