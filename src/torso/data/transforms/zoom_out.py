"""SSD's zoom out: the image somewhere on a larger canvas, so that objects become small (arXiv 1512.02325, 3.6)."""

from __future__ import annotations

import numpy as np
from PIL import Image

from torso.bounds import AtLeastOne, Probability
from torso.data.sample import Draw, Sample, Transform

_MEAN = (124, 116, 104)  # ImageNet's, which the backbones subtract


class ZoomOut(Transform):
    """With `probability` the canvas has 1..largest times the image's sides, drawn evenly, and the mean colour.

    It comes before crops, which choose among its places.
    """

    def __init__(self, *, largest: AtLeastOne = 4.0, probability: Probability = 0.5) -> None:
        self.largest, self.probability = largest, probability

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        if rng.random() >= self.probability:
            return sample
        factor = rng.uniform(1.0, self.largest)
        height, width = (int(side * factor) for side in sample.size_hw)
        left = int(rng.integers(width - sample.image.width + 1))
        top = int(rng.integers(height - sample.image.height + 1))
        canvas = Image.new("RGB", (width, height), _MEAN)
        canvas.paste(sample.image, (left, top))
        return sample.mapped(canvas, (1.0, 1.0), (float(left), float(top)))
