"""The last transform: the size at which the model wants to see the image, by its own input policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from torso.data.sample import Draw, Sample, Transform
from torso.geometry.resize import padded_size, scaled_size
from torso.inputs._base import Input


class ToInput(Transform):
    """Resizes as inference does and names the canvas, so that shapes are static where the policy allows it.

    policy: the model's input; multiple: the model's. canvas: "own" pads to what the image by itself would have in
    inference, "few" rounds that up to one landscape and one portrait canvas: compiled graphs stay few. A sample whose
    batch has a scale gets that much of both, rounded up to the multiple.
    """

    def __init__(self, policy: Input, multiple: int, *, few: bool = False) -> None:
        self.policy, self.multiple, self.few = policy, multiple, few

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        # The frame, not the image: one that was jittered to half of its canvas must stay half of it.
        frame_hw = self.policy.resized(sample.canvas_hw or sample.size_hw)
        canvas_hw = self._canvas(frame_hw, self.multiple if sample.scale == 1 else 1)
        if sample.scale != 1:
            frame_hw = scaled_size(frame_hw, sample.scale)
            canvas_hw = padded_size([scaled_size(canvas_hw, sample.scale)], self.multiple)
        return replace(sample.resized(frame_hw).clipped(), canvas_hw=canvas_hw)

    def _canvas(self, resized_hw: tuple[int, int], multiple: int) -> tuple[int, int]:
        if not self.few:
            return self.policy.padded([resized_hw], multiple)
        # What the square and the longest thinkable image of this orientation need, every one in between fits into.
        longest = (1, 4096) if resized_hw[1] >= resized_hw[0] else (4096, 1)
        sizes = [resized_hw, self.policy.resized(longest), self.policy.resized((1, 1))]
        return self.policy.padded(sizes, multiple)
