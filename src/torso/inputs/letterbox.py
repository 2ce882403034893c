"""One fixed size for all images: aspect kept, padding to the right and below."""

from __future__ import annotations

from collections.abc import Sequence

from torso.bounds import Size
from torso.geometry.resize import letterbox_size, padded_size
from torso.inputs._base import Input


class Letterbox(Input):
    """Every batch has the same shape, so compiled graphs and CUDA graphs are made once.

    size_hw: (height, width) of the batch in pixels; rounded up to the model's multiple.
    """

    def __init__(self, *, size_hw: Size = (640, 640)) -> None:
        self.size_hw = size_hw

    def resized(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        return letterbox_size(size_hw, self.size_hw)

    def padded(self, sizes_hw: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
        return padded_size([self.size_hw], multiple)
