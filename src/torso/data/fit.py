"""The last step before the batch: a sample brought to the size that the model's input policy wants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from torso.data.sample import Draw, Sample, Transform
from torso.geometry.resize import Resizing


class Fit(Transform):
    """policy: the model's input part, so that training and inference resize alike. Made at run time, not configured."""

    def __init__(self, policy: Resizing) -> None:
        self.policy = policy

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        frame_hw = self.policy.resized(sample.canvas_hw or sample.size_hw)
        return replace(sample.resized(frame_hw), canvas_hw=self.policy.padded([frame_hw], 1))
