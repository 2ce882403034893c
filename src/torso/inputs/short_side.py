"""Short side to one length, long side at most another: the Fast R-CNN convention (arXiv 1504.08083)."""

from __future__ import annotations

from collections.abc import Sequence

from torso.geometry.resize import padded_size, short_side_size
from torso.inputs._base import Input


class ShortSide(Input):
    """Lengths in pixels; the batch is as large as its largest picture, rounded up to the model's multiple."""

    def __init__(self, *, short: int = 800, longest: int = 1333) -> None:
        if not 1 <= short <= longest:
            raise ValueError(f"ShortSide wants 1 <= short <= longest; short={short}, longest={longest} came")
        self.short, self.longest = short, longest

    def resized(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        return short_side_size(size_hw, self.short, self.longest)

    def padded(self, sizes_hw: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
        return padded_size(sizes_hw, multiple)
