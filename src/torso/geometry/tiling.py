"""Where the tiles of a large image lie: plain arithmetic for training and inference (SAHI, arXiv 2202.06934)."""

from __future__ import annotations

from torso.geometry.resize import SizeHW

Window = tuple[int, int, int, int]
"""(x1, y1, x2, y2), whole pixels of the image."""


def tile_origins(length: int, tile: int, overlap: float) -> tuple[int, ...]:
    """Where tiles begin along one side of `length` px, in steps of tile - int(overlap * tile).

    The last is shifted back inside. A side that fits into one tile has the one origin 0.
    """
    step = tile - int(overlap * tile)
    count = 1 if length <= tile else -(-(length - tile) // step) + 1
    return tuple(min(number * step, max(length - tile, 0)) for number in range(count))


def tile_windows(size_hw: SizeHW, tile_hw: SizeHW, overlap: float) -> tuple[Window, ...]:
    """The tiles of an image, row by row; they cover it, and none is larger than the tile or the image."""
    height, width = min(size_hw[0], tile_hw[0]), min(size_hw[1], tile_hw[1])
    rows = tile_origins(size_hw[0], tile_hw[0], overlap)
    columns = tile_origins(size_hw[1], tile_hw[1], overlap)
    return tuple((x, y, x + width, y + height) for y in rows for x in columns)
