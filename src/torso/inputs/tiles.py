"""Tiles of a large image, each seen as an image of its own, in training and prediction (SAHI, arXiv 2202.06934)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Annotated, Self

from annotated_types import Interval

from torso.bounds import Size
from torso.geometry.tiling import Window, tile_windows
from torso.inputs._base import Input, Merging, View
from torso.inputs.letterbox import Letterbox
from torso.parts import Part


class Tiles(Input):
    """An image larger than a tile is looked at tile by tile; one that fits into a tile is looked at as it is.

    size_hw: (height, width) of a tile, px of the image. overlap: share of a tile that it has in common with the
    next, 0 to 0.9; an object smaller than that lies whole in some tile. whole: the whole image, shrunk, is
    looked at as well, for objects larger than a tile.
    merge: "union" suppresses in each tile alone and then joins what different tiles say of one object (overlap at
    least half of the smaller box, same class) into the box around both, so that an object cut by a seam comes back
    whole; "suppression" lets the model's suppression choose among the candidates of all tiles at once.
    min_visible: in training, a box of which a smaller share lies within the tile is marked as crowd, not learned.
    inner: the policy by which a tile is shown to the model; None shows it at its own pixels.
    """

    def __init__(
        self,
        *,
        size_hw: Size = (640, 640),
        overlap: Annotated[float, Interval(ge=0, le=0.9)] = 0.2,
        whole: bool = True,
        merge: Merging = "union",
        min_visible: Annotated[float, Interval(gt=0, le=1)] = 0.5,
        inner: Part[Input] | None = None,
    ) -> None:
        self.size_hw, self.overlap, self.whole, self.min_visible = size_hw, overlap, whole, min_visible
        self.merging = merge
        self._set(Letterbox(size_hw=size_hw) if inner is None else inner.build())

    def around(self, inner: Input) -> Self:
        """The same tiles with another policy inside."""
        made = copy.copy(self)
        made._set(inner)
        return made

    def resized(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        return self.inner.resized(size_hw)

    def padded(self, sizes_hw: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
        return self.inner.padded(sizes_hw, multiple)

    def windows(self, size_hw: tuple[int, int]) -> tuple[Window, ...]:
        tiles = tile_windows(size_hw, self.size_hw, self.overlap)
        return (*tiles, (0, 0, size_hw[1], size_hw[0])) if self.whole and len(tiles) > 1 else tiles

    def window_views(self, window: Window, multiple: int) -> tuple[View, ...]:
        return self.inner.window_views(window, multiple)

    def _set(self, inner: Input) -> None:
        if isinstance(inner, Tiles):
            raise ValueError("Tiles.inner: expected a policy of one tile, such as letterbox, got tiles")
        self.inner = inner
        self.together = inner.together or self.merging == "suppression"
