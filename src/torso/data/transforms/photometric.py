"""Photometric distortion of SSD (arXiv 1512.02325): brightness, contrast, saturation, hue."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from torso.data.sample import Draw, Sample, Transform, check_probability

_LEVELS = np.arange(256, dtype=np.float64)


class Photometric(Transform):
    """Each of the four is done with `probability`; all values are the largest change.

    brightness: in shares of full white, added. contrast, saturation: as a factor 1 - c .. 1 + c. hue: in turns, 0..0.5.
    Look-up tables on 8 bits: brightness and contrast are one table on RGB, saturation and hue one on HSV.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.125,
        contrast: float = 0.5,
        saturation: float = 0.5,
        hue: float = 0.05,
        probability: float = 0.5,
    ) -> None:
        if not (0 <= brightness <= 1 and 0 <= contrast < 1 and 0 <= saturation < 1 and 0 <= hue <= 0.5):
            raise ValueError(
                f"Photometric wants brightness 0..1, contrast and saturation 0..1 (below 1), hue 0..0.5; {brightness}, "
                f"{contrast}, {saturation}, {hue} came: correct them"
            )
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self.probability = check_probability(probability, "Photometric")

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        # All four are always drawn, so that turning one off leaves the others as they were.
        chosen = rng.random(4) < self.probability
        amounts = np.where(chosen, rng.uniform(-1, 1, 4), 0.0) * (
            self.brightness,
            self.contrast,
            self.saturation,
            self.hue,
        )
        image = sample.image
        if amounts[:2].any():
            image = image.point(_tables([_clip((_LEVELS + 255 * amounts[0]) * (1 + amounts[1]))] * 3))
        if amounts[2:].any():
            hue = (_LEVELS + 256 * amounts[3]) % 256
            hsv = image.convert("HSV").point(_tables([hue, _clip(_LEVELS * (1 + amounts[2])), _LEVELS]))
            image = hsv.convert("RGB")
        return sample.mapped(image, (1.0, 1.0)) if image is not sample.image else sample


def _clip(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.clip(levels, 0, 255)


def _tables(levels: list[npt.NDArray[np.float64]]) -> list[int]:
    """Pillow's form: the three tables one after another, whole numbers; hue has wrapped, so 256 rounds to 0."""
    return [int(level + 0.5) % 256 for table in levels for level in table.tolist()]
