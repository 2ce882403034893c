"""The contract of an input policy: which parts of an image the model sees, and at which size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torso.geometry.resize import SizeHW
from torso.geometry.tiling import Window
from torso.plain_values import Checked

Merging = Literal["suppression", "union"]
"""How what several views found becomes one answer; see Tiles."""


class View(NamedTuple):
    """One look at an image.

    window: the part that is cut out, px of the image; size_hw: what it is resized to; canvas_hw: what it is padded
    to; flipped: mirrored left to right; sides: (least, most) px, objects whose sqrt(area) lies outside are left out.
    """

    window: Window
    size_hw: SizeHW
    canvas_hw: SizeHW
    flipped: bool = False
    sides: tuple[float, float] | None = None


class Input(Checked):
    """Sizes only; pixels are resized by one function for training and inference alike (inference.images).

    Most policies show an image whole and once. merging: how views of different windows come together. together:
    whether views are suppressed together, so that the model's candidates are wanted before its suppression.
    """

    merging: Merging = "suppression"
    together: bool = False

    def resized(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that an image of this size is resized to."""
        raise NotImplementedError

    def padded(self, sizes_hw: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
        """(height, width) of the batch that holds images of these resized sizes; multiples of `multiple`."""
        raise NotImplementedError

    def windows(self, size_hw: tuple[int, int]) -> tuple[Window, ...]:
        """The parts of an image of this (height, width) that are looked at; each is a sample in training."""
        return ((0, 0, size_hw[1], size_hw[0]),)

    def window_views(self, window: Window, multiple: int) -> tuple[View, ...]:
        """The views of one window that prediction takes: once, or at several sizes and mirrored."""
        size_hw = self.resized((window[3] - window[1], window[2] - window[0]))
        return (View(window, size_hw, self.padded([size_hw], multiple)),)

    def views(self, size_hw: tuple[int, int], multiple: int) -> tuple[View, ...]:
        """All views of all windows of an image of this (height, width), in a fixed order."""
        return tuple(view for window in self.windows(size_hw) for view in self.window_views(window, multiple))
