"""Vertical flip: mirror top and bottom."""

from __future__ import annotations

import numpy as np
from PIL import Image

from torso.bounds import Probability
from torso.data.sample import Draw, Sample, Transform


class VerticalFlip(Transform):
    """probability: of a flip, 0..1."""

    def __init__(self, *, probability: Probability = 0.5) -> None:
        self.probability = probability

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        if rng.random() >= self.probability:
            return sample
        image = sample.image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        return sample.mapped(image, (1.0, -1.0), (0.0, float(image.height)))
