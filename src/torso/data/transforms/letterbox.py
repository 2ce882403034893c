"""Letterbox: resize to fit a fixed canvas with the aspect kept; the batch pads at the bottom and the right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from torso.data.sample import Draw, Sample
from torso.geometry.resize import letterbox_size
from torso.inference.images import resize_image


class Letterbox:
    """size_hw: the canvas (height, width). Every batch then has one static shape."""

    def __init__(self, *, size_hw: tuple[int, int] = (640, 640)) -> None:
        self.size_hw = size_hw

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        height, width = letterbox_size(sample.size_hw, self.size_hw)
        scale_xy = (width / sample.size_hw[1], height / sample.size_hw[0])
        resized = sample.mapped(resize_image(sample.image, (height, width)), scale_xy)
        return replace(resized, canvas_hw=self.size_hw)
