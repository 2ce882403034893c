"""Large scale jitter (Ghiasi et al., "Simple Copy-Paste", arXiv 2012.07177): resize by a random factor, crop or pad."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from torso.bounds import NotNegative, Positive, Probability, Size
from torso.data.sample import Draw, Sample, Transform
from torso.geometry.resize import letterbox_size, scaled_size
from torso.plain_values import check_rising


class ScaleJitter(Transform):
    """The image is fitted into size_hw, times a factor drawn from low..high; what is larger is cropped at random.

    size_hw: the canvas (height, width), px, one static shape. min_side, min_visible: which boxes stay after the crop
    (Sample.clipped).
    """

    def __init__(
        self,
        *,
        size_hw: Size = (640, 640),
        low: Positive = 0.1,
        high: Positive = 2.0,
        min_side: NotNegative = 1.0,
        min_visible: Probability = 0.1,
    ) -> None:
        check_rising("ScaleJitter", low=low, high=high)
        self.size_hw, self.low, self.high = size_hw, low, high
        self.min_side, self.min_visible = min_side, min_visible

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        fitted = letterbox_size(sample.size_hw, self.size_hw)
        height, width = scaled_size(fitted, rng.uniform(self.low, self.high))
        crop_h, crop_w = min(height, self.size_hw[0]), min(width, self.size_hw[1])
        top, left = int(rng.integers(height - crop_h + 1)), int(rng.integers(width - crop_w + 1))
        moved = sample.windowed((height, width), (left, top, left + crop_w, top + crop_h))
        return replace(moved.clipped(self.min_side, self.min_visible), canvas_hw=self.size_hw)
