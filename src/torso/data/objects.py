"""The annotated objects of one image: a record of aligned columns that moves, is cut and is chosen from as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from torso.geometry.resize import SizeHW

Boxes = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class Objects(NamedTuple):
    """boxes: [n, 4] float32 xyxy px of the image; labels: [n] int64; crowd: [n] bool, a region of many objects.

    A further column, [n, ...] or None, is a further field here: transforms carry every column along. One that is
    measured in pixels is changed in `moved` and `clipped` too.
    """

    boxes: Boxes
    labels: npt.NDArray[np.int64]
    crowd: Bools

    @staticmethod
    def none() -> Objects:
        """No object."""
        return Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))

    @property
    def number(self) -> int:
        """n, how many there are."""
        return len(self.labels)

    @property
    def area(self) -> Boxes:
        """[n] px^2 of the boxes."""
        return np.asarray((self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1))

    def map(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Objects:
        """Every column changed; one that is absent stays so."""
        return _objects([None if column is None else change(column) for column in self])

    def keep(self, rows: Bools) -> Objects:
        """Those where rows [n] is true."""
        return self.map(lambda column: column[rows])

    def moved(self, scale_xy: tuple[float, float], offset_xy: tuple[float, float]) -> Objects:
        """In the pixels of another image, there = here * scale + offset; a negative scale mirrors. Not clipped."""
        (sx, sy), (ox, oy) = scale_xy, offset_xy
        moved = self.boxes * np.array([sx, sy, sx, sy], np.float32) + np.array([ox, oy, ox, oy], np.float32)
        boxes = np.concatenate([np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])], axis=1)
        return self._replace(boxes=boxes)

    def clipped(self, size_hw: SizeHW) -> Objects:
        """Cut at the border of an image of this (height, width); what lies outside keeps a box without area."""
        height, width = size_hw
        return self._replace(boxes=np.clip(self.boxes, 0, np.array([width, height, width, height], np.float32)))

    def as_crowd(self, rows: Bools) -> Objects:
        """Those where rows [n] is true become crowd; what is crowd stays so."""
        return self._replace(crowd=self.crowd | rows)

    @staticmethod
    def concat(parts: Sequence[Objects]) -> Objects:
        """The objects of all parts, part after part; a column that one part lacks is absent."""
        if not parts:
            return Objects.none()
        columns = [list(column) for column in zip(*parts, strict=True)]
        return _objects([None if any(c is None for c in column) else np.concatenate(column) for column in columns])


def _objects(columns: Sequence[npt.NDArray[Any] | None]) -> Objects:
    return Objects(*columns)  # type: ignore[arg-type]  # the first three are never None
