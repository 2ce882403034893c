"""Multi-scale resizing of the shorter side (Fast R-CNN, Girshick 2015): a length drawn from a list, aspect kept."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import MinLen

from torso.bounds import Count
from torso.data.sample import Draw, Sample, Transform
from torso.geometry.resize import short_side_size
from torso.plain_values import check_rising


class ResizeShort(Transform):
    """short_sides: lengths in px, one is drawn for each sample; longest: no side gets longer than this."""

    def __init__(self, *, short_sides: Annotated[tuple[Count, ...], MinLen(1)] = (800,), longest: Count = 1333) -> None:
        check_rising("ResizeShort", short_sides=max(short_sides), longest=longest)
        self.short_sides = short_sides
        self.longest = longest

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        short = self.short_sides[int(rng.integers(len(self.short_sides)))]
        return sample.resized(short_side_size(sample.canvas_hw or sample.size_hw, short, self.longest))
