"""One fixed size for all images, the aspect given up: the warping of SSD (arXiv 1512.02325)."""

from __future__ import annotations

from collections.abc import Sequence

from torso.bounds import Size
from torso.geometry.resize import padded_size
from torso.inputs._base import Input


class Fixed(Input):
    """Every image fills the whole of size_hw, (height, width) px, whatever its shape; nothing but the multiple pads.

    Boxes are stretched with the image and come back in its own pixels.
    """

    def __init__(self, *, size_hw: Size = (512, 512)) -> None:
        self.size_hw = size_hw

    def resized(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        return self.size_hw

    def padded(self, sizes_hw: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
        return padded_size([self.size_hw], multiple)
