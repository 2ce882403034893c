"""SSD's default boxes: a side a level, one between it and the next, and ratios (Liu et al. 2016, arXiv 1512.02325)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torso.bounds import AtLeastOne, Positive
from torso.geometry.priors._base import PriorGenerator, StrideFrom, place_anchors
from torso.types import Priors


class SSDAnchors(PriorGenerator):
    """At every location of level k: a square of side s_k, one of sqrt(s_k * s_(k+1)), and for each ratio r the box of
    s_k * sqrt(r) by s_k / sqrt(r), then the same standing up.

    Args:
        sizes: sides s_k in input pixels, one more than there are levels. None: four strides of each level, and twice
            the last.
        ratios: longer over shorter side, one tuple a level; levels may have different numbers of them (an unshared
            head wants that). None: (2,) on every level.
        offset: of the centres, in strides.
        clip: sides end at the image's (torchvision); corners may leave it all the same.
        stride_from: "feature" uses the level's nominal stride, which the neck ssd_extra calls a step; "image" the
            padded image size // map size.
    """

    def __init__(
        self,
        strides_yx: Sequence[tuple[int, int]],
        *,
        sizes: tuple[Positive, ...] | None = None,
        ratios: tuple[tuple[AtLeastOne, ...], ...] | None = None,
        offset: float = 0.5,
        clip: bool = False,
        stride_from: StrideFrom = "feature",
    ) -> None:
        strides = [(s[0], s[1]) for s in strides_yx]
        if sizes is None:
            sides = [4.0 * (y * x) ** 0.5 for y, x in strides]
            sizes = (*sides, 2 * sides[-1])
        ratios = ((2.0,),) * len(strides) if ratios is None else ratios
        if len(sizes) != len(strides) + 1 or len(ratios) != len(strides):
            raise ValueError(
                f"SSDAnchors: expected {len(strides) + 1} sizes and {len(strides)} tuples of ratios for the "
                f"{len(strides)} levels of strides (y, x) {strides}, got {sizes} and {ratios}: give as many, or "
                "None for both, which follows the strides"
            )
        super().__init__([_shapes(sizes[k], sizes[k + 1], level) for k, level in enumerate(ratios)])
        self.strides_yx = strides
        self.offset, self.clip, self.stride_from = offset, clip, stride_from

    @classmethod
    def levels_written(cls, args: Mapping[str, Any]) -> dict[str, int]:
        """`sizes` has one more than there are levels."""
        sizes, ratios = args.get("sizes"), args.get("ratios")
        written = {} if sizes is None else {"sizes": len(sizes) - 1}
        return written if ratios is None else {**written, "ratios": len(ratios)}

    def forward(self, sizes_hw: Sequence[tuple[int, int]], image_hw: tuple[int, int]) -> Priors:
        shapes = self.shapes()
        if self.clip:
            height, width = image_hw
            shapes = [torch.stack([wh[:, 0].clamp(max=width), wh[:, 1].clamp(max=height)], dim=1) for wh in shapes]
        strides = self.strides_yx if self.stride_from == "feature" else None
        return place_anchors(shapes, sizes_hw, image_hw, strides, self.offset)


def _shapes(side: float, next_side: float, ratios: Sequence[float]) -> list[tuple[float, float]]:
    """(w, h) of one level, in the order of the paper's code, torchvision and mmdetection."""
    between = (side * next_side) ** 0.5
    shapes = [(side, side), (between, between)]
    for ratio in ratios:
        longer, shorter = side * ratio**0.5, side / ratio**0.5
        shapes += [(longer, shorter), (shorter, longer)]
    return shapes
