"""Views of an image on their way through the model: cut out, batched by shape, mapped back, and made one answer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from torso.geometry.resize import SizeHW
from torso.geometry.tiling import Window
from torso.images import image_to_tensor, resize_image
from torso.inference.union import merge_union
from torso.inputs._base import Input, View
from torso.suppression._base import Suppression
from torso.types import Candidates

_NEAR = 0.1  # share of its side that a box may end short of its window's border and still count as cut by it


class ViewPixels(NamedTuple):
    """One view as the model takes it: pixels uint8 [3, h, w]."""

    view: View
    pixels: Tensor


class SplitImage(NamedTuple):
    """An image taken apart: (height, width) of the original, the shown views in order, how many there are."""

    original_hw: SizeHW
    shown: Iterator[ViewPixels] | Sequence[ViewPixels]
    path: str | Path | None = None


def split_image(image: Image.Image, policy: Input, multiple: int, path: str | Path | None = None) -> SplitImage:
    """The views of an image by this policy, made one by one as they are asked for."""
    size_hw = (image.height, image.width)
    views = policy.views(size_hw, multiple)
    return SplitImage(size_hw, (ViewPixels(view, _pixels(image, view)) for view in views), path)


def _pixels(image: Image.Image, view: View) -> Tensor:
    whole = view.window == (0, 0, image.width, image.height)
    resized = resize_image(image if whole else image.crop(view.window), view.size_hw)
    return image_to_tensor(resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.flipped else resized)


def to_original(view: View) -> tuple[float, float, float, float]:
    """(scale_x, scale_y, offset_x, offset_y) from pixels of the view to those of the image; mirrored: scale_x < 0."""
    x1, y1, x2, y2 = view.window
    scale_x, scale_y = (x2 - x1) / view.size_hw[1], (y2 - y1) / view.size_hw[0]
    return (-scale_x, scale_y, float(x2), float(y1)) if view.flipped else (scale_x, scale_y, float(x1), float(y1))


@dataclass
class PendingView:
    """A view whose turn comes, and what was found in it: rows [1, T] on the CPU, px of the view."""

    view: View
    pixels: Tensor
    found: Candidates | None = None


def mapped(found: Candidates, view: View, original_hw: SizeHW) -> Candidates:
    """Rows [1, T] of a view in the image's pixels, cut at its border; outside the view's range they become empty."""
    scale, offset = torch.tensor(to_original(view), dtype=torch.float32).view(2, 2)
    height, width = original_hw
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    moved = found.moved(scale, offset, mirrored=view.flipped)
    boxes = torch.minimum(moved.boxes.clamp(min=0), limit)
    scores = found.scores.float()
    if view.sides is not None:
        side = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1).sqrt()
        scores = scores.where((side >= view.sides[0]) & (side <= view.sides[1]), 0.0)
    return moved.changed(boxes=boxes, scores=scores)


Suppress = Callable[[Candidates, int], Candidates]
"""Suppression of rows [1, T] on the CPU that come from so many images' worth of windows."""


def merge_views(pending: Sequence[PendingView], original_hw: SizeHW, policy: Input, suppress: Suppress) -> Candidates:
    """What all views of one image found, as rows [1, n] best first in its pixels, on the CPU.

    Where the policy wants its views suppressed together, they hold candidates before suppression: those of one window
    are joined and suppressed once. Windows come together by the policy's merging. One view alone is what the model
    finds by itself, bit for bit. Merged boxes carry no variance: several boxes made them.
    """
    if len(pending) == 1 and pending[0].view.sides is None:
        found = _rows(pending[0])
        return mapped(suppress(found, 1) if policy.together else found, pending[0].view, original_hw)
    parts = [mapped(_rows(one), one.view, original_hw) for one in pending]
    if not policy.together:
        return _united(parts, [one.view.window for one in pending], original_hw)
    windows = list(dict.fromkeys(one.view.window for one in pending))
    if len(windows) == 1 or policy.merging == "suppression":
        return suppress(joined(parts), len(windows))
    of_window = ([p for p, k in zip(parts, pending, strict=True) if k.view.window == window] for window in windows)
    return _united([suppress(joined(group), 1) for group in of_window], windows, original_hw)


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Rows [B, T] of several views one after the other: [B, sum of T].

    Without their levels: an object lies on another level of a larger view, and must be kept once.
    """
    return Candidates.concat([part.changed(level=None) for part in parts])


def with_scaled_limits(suppression: Suppression, times: int) -> Suppression:
    """The same suppression with room for so many images' rows: its limits are meant for one view."""
    made = copy.copy(suppression)
    made.limits = suppression.limits.times(times)
    return made


def _united(parts: Sequence[Candidates], windows: Sequence[Window], original_hw: SizeHW) -> Candidates:
    views = torch.cat([torch.full_like(p.labels[0], number) for number, p in enumerate(parts)])
    cut = torch.cat([_cut(p.boxes[0], window, original_hw) for p, window in zip(parts, windows, strict=True)])
    found = joined([p._replace(variance=None) for p in parts])
    real = found.scores[0] > 0
    one = merge_union(found.boxes[0][real], found.scores[0][real], found.labels[0][real], views[real], cut[real])
    return Candidates(one.boxes[None], one.scores[None], one.labels[None], torch.full_like(one.labels, -1)[None])


def _cut(boxes: Tensor, window: Window, original_hw: SizeHW) -> Tensor:
    """[n] whether a box [n, 4] ends at a border of its window that is not the image's."""
    height, width = original_hw
    edges = torch.tensor(window, dtype=boxes.dtype)
    inner = torch.tensor([window[0] > 0, window[1] > 0, window[2] < width, window[3] < height])
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return (inner & ((boxes - edges).abs() <= _NEAR * sides + 1)).any(dim=1)


def _rows(one: PendingView) -> Candidates:
    assert one.found is not None
    return one.found
