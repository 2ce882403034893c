"""Anchors of several scales and ratios at every location (Faster R-CNN, arXiv 1506.01497; RetinaNet, 1708.02002)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from annotated_types import MinLen

from torso.bounds import Count, Positive
from torso.geometry.priors._base import PriorGenerator, StrideFrom, place_anchors
from torso.types import Priors


class Anchors(PriorGenerator):
    """For each ratio, for each scale: width = side / sqrt(ratio), height = side * sqrt(ratio).

    Args:
        base_scale: side of the smallest anchor in strides of its level (RetinaNet 4, RPN 8).
        octave_scales: how many sides an octave, 2^(i / octave_scales) each.
        ratios: height / width.
        aspects: (width, height) in sides, in place of ratios where these are not exact (EfficientDet's 1.4 by 0.7).
        sizes: sides in pixels, one tuple a level, in place of base_scale and octave_scales.
        offset: of the centres, in strides (0 by the anchor convention of the reference implementations).
        rounded: corners rounded to whole pixels about the centre (torchvision).
        stride_from: "feature" uses the level's nominal stride; "image" the padded image size // map size, which
            differs where a map was rounded up (torchvision).
    """

    def __init__(
        self,
        strides_yx: Sequence[tuple[int, int]],
        *,
        base_scale: Positive = 4.0,
        octave_scales: Count = 3,
        ratios: Annotated[tuple[Positive, ...], MinLen(1)] = (0.5, 1.0, 2.0),
        aspects: Annotated[tuple[tuple[Positive, Positive], ...], MinLen(1)] | None = None,
        sizes: tuple[Annotated[tuple[Positive, ...], MinLen(1)], ...] | None = None,
        offset: float = 0.0,
        rounded: bool = False,
        stride_from: StrideFrom = "feature",
    ) -> None:
        strides = [(s[0], s[1]) for s in strides_yx]
        if sizes is not None:
            _check_sizes(sizes, strides)
        shapes = []
        for i, (sy, sx) in enumerate(strides):
            octaves = [base_scale * 2 ** (k / octave_scales) for k in range(octave_scales)]
            pairs = [(side, side) for side in sizes[i]] if sizes is not None else [(o * sx, o * sy) for o in octaves]
            if aspects is None:
                wh = [(w / r**0.5, h * r**0.5) for r in ratios for w, h in pairs]
            else:
                wh = [(w * x, h * y) for x, y in aspects for w, h in pairs]
            shapes.append([(2.0 * round(w / 2), 2.0 * round(h / 2)) for w, h in wh] if rounded else wh)
        lost = [f"{w:g} x {h:g}" for level in shapes for w, h in level if min(w, h) <= 0]
        if lost:
            raise ValueError(
                f"Anchors are rounded to whole pixels about their centre, which makes one of them {lost[0]} px: give "
                "larger ones (base_scale, sizes), or rounded=false"
            )
        super().__init__(shapes)
        self.strides_yx = strides
        self.offset, self.stride_from = offset, stride_from

    @classmethod
    def levels_written(cls, args: Mapping[str, Any]) -> dict[str, int]:
        return {} if args.get("sizes") is None else {"sizes": len(args["sizes"])}

    def forward(self, sizes_hw: Sequence[tuple[int, int]], image_hw: tuple[int, int]) -> Priors:
        strides = self.strides_yx if self.stride_from == "feature" else None
        return place_anchors(self.shapes(), sizes_hw, image_hw, strides, self.offset)


def _check_sizes(sizes: Sequence[Sequence[float]], strides: Sequence[tuple[int, int]]) -> None:
    if len(sizes) != len(strides):
        given = "1 level" if len(sizes) == 1 else f"{len(sizes)} levels"
        raise ValueError(
            f"Anchors.sizes has {given}, but the head reads {len(strides)}, of strides (y, x) {strides}: give one list "
            "of sides for each, fine to coarse, or None, which follows the strides"
        )
