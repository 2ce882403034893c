"""Photometric distortion of SSD (arXiv 1512.02325): brightness, contrast, saturation, hue."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from annotated_types import Interval

from torso.bounds import BelowOne, Probability
from torso.data.sample import Draw, Sample, Transform

# RGB to YIQ (the NTSC transform): luma, and a plane in which a turn is a change of hue.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_TO_RGB = np.linalg.inv(_TO_YIQ)


class Photometric(Transform):
    """Each of the four is done with `probability`; all values are the largest change, drawn evenly to both sides.

    brightness: in shares of full white, added. contrast, saturation: as a factor 1 - c .. 1 + c; hue: in turns, 0..0.5.
    All four are one affine map of RGB: a tenth of the time of a round trip through HSV (2.7 against 25 ms for 640x480),
    so saturation and hue keep the luma, where those of HSV keep the largest channel.
    """

    def __init__(
        self,
        *,
        brightness: Probability = 0.125,
        contrast: BelowOne = 0.5,
        saturation: BelowOne = 0.5,
        hue: Annotated[float, Interval(ge=0, le=0.5)] = 0.05,
        probability: Probability = 0.5,
    ) -> None:
        self.most = (brightness, contrast, saturation, hue)
        self.probability = probability

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        # All four are always drawn, so that turning one off leaves the others as they were.
        chosen = rng.random(4) < self.probability
        amounts = np.where(chosen, rng.uniform(-1, 1, 4), 0.0) * self.most
        if not amounts.any():
            return sample
        brightness, contrast, saturation, hue = amounts.tolist()
        colours = _TO_RGB @ _turned(hue, 1 + saturation) @ _TO_YIQ * (1 + contrast)
        offset = colours @ np.full(3, 255 * brightness)
        matrix = np.concatenate([colours, offset[:, None]], axis=1)
        return sample.mapped(sample.image.convert("RGB", tuple(matrix.reshape(-1).tolist())), (1.0, 1.0))


def _turned(turns: float, stretch: float) -> npt.NDArray[np.float64]:
    """[3, 3], a turn and a stretch of the colour plane of YIQ; luma stays."""
    cos, sin = stretch * np.cos(2 * np.pi * turns), stretch * np.sin(2 * np.pi * turns)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
