"""MixUp for detection (Zhang et al., "Bag of Freebies", arXiv 1902.04103): two images blended, boxes of both kept."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Interval
from PIL import Image

from torso.bounds import Positive, Probability
from torso.data.sample import Draw, Sample, Transform, joined
from torso.geometry.resize import letterbox_size
from torso.images import resize_image


class MixUp(Transform):
    """Another image, fitted into this one's frame, is blended in with a share drawn from Beta(alpha, alpha).

    Losses are not weighted by the share, as in YOLOX (arXiv 2107.08430): with alpha = 8 both stay visible. Boxes of a
    image whose share is below min_share are left out.
    """

    mixes = True

    def __init__(
        self,
        *,
        alpha: Positive = 8.0,
        probability: Probability = 1.0,
        min_share: Annotated[float, Interval(ge=0, lt=0.5)] = 0.2,
    ) -> None:
        self.alpha, self.min_share = alpha, min_share
        self.probability = probability

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        if rng.random() >= self.probability:
            return sample
        share = float(rng.beta(self.alpha, self.alpha))
        other = _fitted(draw(rng), sample.image)
        blended = sample.mapped(Image.blend(sample.image, other.image, share), (1.0, 1.0))
        shares = ((sample, 1 - share), (other, share))
        return joined(blended, [image for image, part in shares if part >= self.min_share])


def _fitted(image: Sample, frame: Image.Image) -> Sample:
    """The image at the top left of a black frame of the same size, boxes with it."""
    height, width = letterbox_size(image.size_hw, (frame.height, frame.width))
    canvas = Image.new("RGB", frame.size)
    canvas.paste(resize_image(image.image, (height, width)))
    return image.mapped(canvas, (width / image.size_hw[1], height / image.size_hw[0])).clipped()
