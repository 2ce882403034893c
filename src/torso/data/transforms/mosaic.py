"""Mosaic (Bochkovskiy et al., YOLOv4, arXiv 2004.10934): four images around a random centre, on one canvas."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from annotated_types import Interval
from PIL import Image

from torso.bounds import NotNegative, Positive, Probability, Size
from torso.data.sample import Draw, Sample, Transform, joined
from torso.geometry.resize import letterbox_size, scaled_size
from torso.plain_values import check_rising


class Mosaic(Transform):
    """The sample and three others drawn from the data set, each resized and laid against the centre from its quarter.

    size_hw: the canvas (height, width), px. low..high: scale of an image relative to filling the whole canvas.
    centre: the centre lies within centre..1 - centre of the canvas. fill: grey level, 0..255, of what stays uncovered.
    min_side, min_visible: which boxes stay (Sample.clipped). The canvas is its own original (to_original is identity).
    """

    mixes = True

    def __init__(
        self,
        *,
        size_hw: Size = (640, 640),
        low: Positive = 0.4,
        high: Positive = 1.0,
        centre: Annotated[float, Interval(ge=0, le=0.5)] = 0.25,
        fill: Annotated[int, Interval(ge=0, le=255)] = 114,
        probability: Probability = 1.0,
        min_side: NotNegative = 2.0,
        min_visible: Probability = 0.1,
    ) -> None:
        check_rising("Mosaic", low=low, high=high)
        self.size_hw, self.low, self.high, self.centre, self.fill = size_hw, low, high, centre, fill
        self.probability = probability
        self.min_side, self.min_visible = min_side, min_visible

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        if rng.random() >= self.probability:
            return sample
        height, width = self.size_hw
        y, x = (int(side * rng.uniform(self.centre, 1 - self.centre)) for side in self.size_hw)
        canvas = Image.new("RGB", (width, height), (self.fill,) * 3)
        tiles = []
        for quarter, image in enumerate((sample, draw(rng), draw(rng), draw(rng))):
            right, below = bool(quarter % 2), bool(quarter // 2)
            area = (x if right else 0, y if below else 0, width if right else x, height if below else y)
            tiles.append(self._lay(canvas, image, area, right, below, rng))
        whole = replace(sample, image=canvas, to_original=(1.0, 1.0, 0.0, 0.0), canvas_hw=self.size_hw)
        return joined(whole, tiles)

    def _lay(
        self,
        canvas: Image.Image,
        image: Sample,
        area: tuple[int, int, int, int],
        right: bool,
        below: bool,
        rng: np.random.Generator,
    ) -> Sample:
        """Paste the part of an image that its quarter shows; the answer's boxes are in canvas px."""
        x1, y1, x2, y2 = area
        fitted = letterbox_size(image.size_hw, self.size_hw)
        height, width = scaled_size(fitted, rng.uniform(self.low, self.high))
        left, top = (0 if right else max(width - (x2 - x1), 0)), (0 if below else max(height - (y2 - y1), 0))
        window = (left, top, min(left + x2 - x1, width), min(top + y2 - y1, height))
        if window[0] >= window[2] or window[1] >= window[3]:
            return image.keep(np.zeros(len(image.boxes), dtype=np.bool_))
        shown = image.windowed((height, width), window).clipped(self.min_side, self.min_visible)
        corner = (x1 if right else x2 - shown.image.width, y1 if below else y2 - shown.image.height)
        canvas.paste(shown.image, corner)
        return shown.mapped(shown.image, (1.0, 1.0), (float(corner[0]), float(corner[1])))
