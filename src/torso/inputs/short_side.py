"""Short side to one length, long side at most another: the Fast R-CNN convention (arXiv 1504.08083)."""

from __future__ import annotations

from collections.abc import Sequence

from torso.bounds import Count
from torso.geometry.resize import padded_size, short_side_size
from torso.inputs._base import Input
from torso.plain_values import check_rising


class ShortSide(Input):
    """Lengths in pixels; the batch is as large as its largest image, rounded up to the model's multiple."""

    def __init__(self, *, short: Count = 800, longest: Count = 1333) -> None:
        check_rising("ShortSide", short=short, longest=longest)
        self.short, self.longest = short, longest

    def resized(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        return short_side_size(size_hw, self.short, self.longest)

    def padded(self, sizes_hw: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
        return padded_size(sizes_hw, multiple)
