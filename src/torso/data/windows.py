"""A data set of the windows of its images: training on tiles (sliced fine-tuning, SAHI, arXiv 2202.06934)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from torso.data.annotations import Annotations
from torso.data.dataset import DetectionDataset
from torso.data.sample import Sample, Transform
from torso.geometry.tiling import Window
from torso.inputs._base import Input
from torso.inputs.tiles import Tiles


class WindowDataset(DetectionDataset):
    """Sample i is one (image, window) of the policy's windows, image after image; transforms see the window.

    The index in an Item stays the image's row, so that messages name the file. Boxes as in `cut_out`. Each window
    reads its whole image.
    """

    def __init__(
        self,
        annotations: Annotations,
        transforms: Sequence[Transform],
        policy: Tiles,
        seed: int = 0,
        *,
        unmixed_from: int | None = None,
    ) -> None:
        super().__init__(annotations, transforms, seed, unmixed_from=unmixed_from)
        self.policy = policy
        self._first = np.concatenate([[0], np.cumsum(window_counts(annotations, policy))])

    def __len__(self) -> int:
        return int(self._first[-1])

    def load(self, index: int) -> Sample:
        """The window and its boxes; ValueError as for whole images."""
        image = int(np.searchsorted(self._first, index, side="right")) - 1
        sample = super().load(image)
        window = self.policy.windows(sample.size_hw)[index - int(self._first[image])]
        return cut_out(sample, window, self.policy.min_visible)


def make_dataset(
    annotations: Annotations,
    transforms: Sequence[Transform],
    policy: Input,
    seed: int = 0,
    *,
    unmixed_from: int | None = None,
) -> DetectionDataset:
    """What a model with this input policy learns from: windows where it has tiles, whole images otherwise."""
    if isinstance(policy, Tiles):
        return WindowDataset(annotations, transforms, policy, seed, unmixed_from=unmixed_from)
    return DetectionDataset(annotations, transforms, seed, unmixed_from=unmixed_from)


def window_counts(annotations: Annotations, policy: Input) -> list[int]:
    """How many windows each image has."""
    return [len(policy.windows((int(height), int(width)))) for height, width in annotations.size_hw]


def cut_out(sample: Sample, window: Window, min_visible: float) -> Sample:
    """The part of a sample in the window: boxes outside are left out, the others cut at its border.

    A box of which less than min_visible of its area is left becomes crowd: there is something of an object there, too
    little to learn its box from.
    """
    x1, y1, x2, y2 = window
    if (x1, y1, y2, x2) == (0, 0, *sample.size_hw):
        return sample
    moved = sample.mapped(sample.image.crop(window), (1.0, 1.0), (-float(x1), -float(y1)))
    cut = moved.objects.clipped((y2 - y1, x2 - x1))
    marked = cut.as_crowd(cut.area < min_visible * moved.objects.area)
    return replace(moved, objects=marked.keep(cut.area > 0))
