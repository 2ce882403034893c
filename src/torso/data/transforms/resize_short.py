"""Multi-scale resizing of the shorter side (Fast R-CNN, Girshick 2015): a length drawn from a list, aspect kept."""

from __future__ import annotations

import numpy as np

from torso.data.sample import Draw, Sample, Transform
from torso.geometry.resize import short_side_size


class ResizeShort(Transform):
    """short_sides: lengths in px, one is drawn for each sample; longest: no side gets longer than this."""

    def __init__(self, *, short_sides: tuple[int, ...] = (800,), longest: int = 1333) -> None:
        if not short_sides or min(short_sides) < 1 or max(short_sides) > longest:
            raise ValueError(
                f"ResizeShort wants lengths of 1..longest; short_sides={short_sides}, longest={longest} came: "
                "correct one"
            )
        self.short_sides = short_sides
        self.longest = longest

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        short = self.short_sides[int(rng.integers(len(self.short_sides)))]
        return sample.resized(short_side_size(sample.canvas_hw or sample.size_hw, short, self.longest))
