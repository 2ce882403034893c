"""Letterbox: resize to fit a fixed canvas with the aspect kept; the batch pads at the bottom and the right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from torso.bounds import Size
from torso.data.sample import Draw, Sample, Transform
from torso.geometry.resize import letterbox_size


class Letterbox(Transform):
    """size_hw: the canvas (height, width). Every batch then has one static shape."""

    def __init__(self, *, size_hw: Size = (640, 640)) -> None:
        self.size_hw = size_hw

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        frame_hw = letterbox_size(sample.canvas_hw or sample.size_hw, self.size_hw)
        return replace(sample.resized(frame_hw), canvas_hw=self.size_hw)
