"""SSD's crop (Liu et al., arXiv 1512.02325, 2.2): a random window that overlaps some object by a drawn minimum."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from annotated_types import Interval, MinLen

from torso.bounds import Count, Positive
from torso.data.objects import Boxes
from torso.data.sample import Draw, Sample, Transform
from torso.plain_values import check_rising


class IoUCrop(Transform):
    """One of `overlaps` is drawn (1.0 or more: no crop), then windows are tried until one has that IoU with an object.

    Window sides are min_scale..max_scale of the image's, its aspect (w / h) min_aspect..max_aspect. Objects whose
    centre lies in the window stay, clipped; a window without one is not taken. Crowds make no window good, and stay
    wherever they show. tries: windows before another draw.
    """

    def __init__(
        self,
        *,
        overlaps: Annotated[tuple[float, ...], MinLen(1)] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0),
        min_scale: Annotated[float, Interval(gt=0, le=1)] = 0.3,
        max_scale: Annotated[float, Interval(gt=0, le=1)] = 1.0,
        min_aspect: Positive = 0.5,
        max_aspect: Positive = 2.0,
        tries: Count = 40,
        rounds: Count = 10,
    ) -> None:
        check_rising("IoUCrop", min_scale=min_scale, max_scale=max_scale)
        check_rising("IoUCrop", min_aspect=min_aspect, max_aspect=max_aspect)
        self.overlaps, self.tries, self.rounds = overlaps, tries, rounds
        self.scales, self.aspects = (min_scale, max_scale), (min_aspect, max_aspect)

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        objects = sample.boxes[~sample.crowd]
        if not len(objects):
            return sample
        for _ in range(self.rounds):
            least = self.overlaps[int(rng.integers(len(self.overlaps)))]
            if least >= 1.0:
                return sample
            windows = self._windows(sample, rng)
            fits = np.flatnonzero(_accepted(windows, objects, least))
            if len(fits):
                return _cropped(sample, windows[fits[0]])
        return sample

    def _windows(self, sample: Sample, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """[tries, 4] whole px; rows of an aspect that is out of range are left empty."""
        height, width = sample.size_hw
        shares = rng.uniform(*self.scales, (self.tries, 2))
        sides = np.maximum(shares * (width, height), 1).astype(np.int64)
        corners = (rng.random((self.tries, 2)) * ((width, height) - sides + 1)).astype(np.int64)
        aspects = sides[:, 0] / sides[:, 1]
        sides[(aspects < self.aspects[0]) | (aspects > self.aspects[1])] = 0
        return np.concatenate([corners, corners + sides], axis=1)


def _accepted(windows: npt.NDArray[np.int64], boxes: Boxes, least: float) -> npt.NDArray[np.bool_]:
    low = np.maximum(windows[:, None, :2], boxes[:, :2])
    high = np.minimum(windows[:, None, 2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = (windows[:, 2:] - windows[:, :2]).prod(axis=1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    iou = shared / np.maximum(areas - shared, 1e-6)
    return np.asarray((_centred(windows[:, None], boxes) & (iou >= least)).any(axis=1))


def _centred(window: npt.NDArray[np.int64], boxes: Boxes) -> npt.NDArray[np.bool_]:
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (centers > window[..., :2]) & (centers < window[..., 2:])
    return np.asarray(inside.all(axis=-1))


def _cropped(sample: Sample, window: npt.NDArray[np.int64]) -> Sample:
    x1, y1, x2, y2 = (int(side) for side in window)
    kept = sample.keep(_centred(window, sample.boxes) | sample.crowd)
    return kept.mapped(kept.image.crop((x1, y1, x2, y2)), (1.0, 1.0), (-float(x1), -float(y1))).clipped(1.0, 0.0)
