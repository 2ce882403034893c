"""Sizes of resized and padded images: plain arithmetic, shared by training and inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

SizeHW = tuple[int, int]


class Resizing(Protocol):
    """A policy of sizes, as the input parts are: what an image is resized to, and what a batch is padded to."""

    def resized(self, size_hw: SizeHW) -> SizeHW: ...

    def padded(self, sizes_hw: Sequence[SizeHW], multiple: int) -> SizeHW: ...


def scaled_size(size_hw: SizeHW, scale: float) -> SizeHW:
    """(height, width) times scale, rounded half up, at least one pixel a side."""
    height, width = size_hw
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def letterbox_size(size_hw: SizeHW, target_hw: SizeHW) -> SizeHW:
    """The largest (height, width) of the same aspect that fits into target_hw; small images are enlarged."""
    scale = min(target_hw[0] / size_hw[0], target_hw[1] / size_hw[1])
    height, width = scaled_size(size_hw, scale)
    return min(height, target_hw[0]), min(width, target_hw[1])


def short_side_size(size_hw: SizeHW, short: int, longest: int) -> SizeHW:
    """Shorter side brought to `short`, unless the longer side would pass `longest`: then that one decides."""
    scale = min(short / min(size_hw), longest / max(size_hw))
    return scaled_size(size_hw, scale)


def padded_size(sizes_hw: Sequence[SizeHW], divisor: int) -> SizeHW:
    """The smallest (height, width) that holds every size and is a multiple of divisor in both directions."""
    height = max(size[0] for size in sizes_hw)
    width = max(size[1] for size in sizes_hw)
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor
