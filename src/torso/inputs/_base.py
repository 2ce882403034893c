"""The contract of an input policy: which size a picture has when the model sees it."""

from __future__ import annotations

from collections.abc import Sequence


class Input:
    """Sizes only; pixels are resized by one function for training and inference alike (inference.images)."""

    def resized(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that a picture of this size is resized to."""
        raise NotImplementedError

    def padded(self, sizes_hw: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
        """(height, width) of the batch that holds pictures of these resized sizes; multiples of `multiple`."""
        raise NotImplementedError
