"""An image pyramid: prediction at several sizes and mirrored; valid ranges are those of SNIP (arXiv 1711.08189)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Annotated, Self

from annotated_types import MinLen

from torso.bounds import Positive
from torso.errors import mismatch
from torso.geometry.resize import padded_size, scaled_size
from torso.geometry.tiling import Window
from torso.inputs._base import Input, View
from torso.inputs.letterbox import Letterbox
from torso.inputs.tiles import Tiles
from torso.parts import Part


class Pyramid(Input):
    """Prediction views an image once a scale, and once more mirrored with flip; training sees `inner` alone.

    scales: factors of the size that inner gives an image. The candidates of all views are brought back to the
    image's pixels, in this order, and the model's suppression chooses among them once.
    ranges: (least, most) for each scale, px of the image: a scale answers only for objects whose sqrt(area) lies
    within its range (SNIP); None: every scale for all.
    """

    def __init__(
        self,
        *,
        scales: Annotated[tuple[Positive, ...], MinLen(1)] = (0.5, 1.0, 2.0),
        flip: bool = False,
        ranges: tuple[tuple[float, float], ...] | None = None,
        inner: Part[Input] | None = None,
    ) -> None:
        if len(set(scales)) < len(scales):
            raise mismatch("Pyramid.scales", "different factors, such as 0.5,1,2", scales)
        if ranges is not None and (len(ranges) != len(scales) or any(not 0 <= low < high for low, high in ranges)):
            raise mismatch("Pyramid.ranges", f"a pair 0 <= least < most for each of {scales}", ranges)
        self.scales, self.flip, self.ranges = scales, flip, ranges
        self.together = len(scales) > 1 or flip or ranges is not None
        self._set(Letterbox() if inner is None else inner.build())

    def around(self, inner: Input) -> Self:
        """The same pyramid of another policy's sizes."""
        made = copy.copy(self)
        made._set(inner)
        return made

    def resized(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        return self.inner.resized(size_hw)

    def padded(self, sizes_hw: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
        return self.inner.padded(sizes_hw, multiple)

    def window_views(self, window: Window, multiple: int) -> tuple[View, ...]:
        base_hw = self.resized((window[3] - window[1], window[2] - window[0]))
        canvas_hw = self.padded([base_hw], 1)
        found = []
        for number, scale in enumerate(self.scales):
            size_hw, frame_hw = scaled_size(base_hw, scale), padded_size([scaled_size(canvas_hw, scale)], multiple)
            sides = None if self.ranges is None else self.ranges[number]
            found += [View(window, size_hw, frame_hw, flipped, sides) for flipped in (False, True)[: 1 + self.flip]]
        return tuple(found)

    def _set(self, inner: Input) -> None:
        if isinstance(inner, Tiles | Pyramid):
            remedy = "give one pyramid all scales" if isinstance(inner, Pyramid) else "put the pyramid into Tiles.inner"
            raise ValueError(
                f"Pyramid.inner: expected a policy without a pyramid or tiles, got {type(inner).__name__}: {remedy}"
            )
        self.inner: Input = inner
