"""What travels through the transforms: one image with its boxes, and the one rule of which boxes survive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from torso.data.objects import Bools, Boxes, Objects
from torso.geometry.resize import SizeHW
from torso.images import resize_image
from torso.plain_values import Checked


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One image on its way to the model.

    image: RGB, content only: padding is never part of it, so flips and colours need not know of it.
    objects: what is annotated in it, in px of image.
    to_original: (scale_x, scale_y, offset_x, offset_y), original = here * scale + offset; a flip has a negative scale.
    canvas_hw: the size it is to be padded to, at least image's, or None (then the batch's largest decides).
    scale: factor of the input policy's size at which the sample's whole batch is shown (multi-scale training).
    """

    image: Image.Image
    objects: Objects
    index: int
    image_id: int
    to_original: tuple[float, float, float, float] = (1.0, 1.0, 0.0, 0.0)
    canvas_hw: SizeHW | None = None
    scale: float = 1.0

    @property
    def size_hw(self) -> SizeHW:
        """(height, width) of the image."""
        return self.image.height, self.image.width

    @property
    def boxes(self) -> Boxes:
        """[n, 4] float32 xyxy px of image."""
        return self.objects.boxes

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """[n] int64."""
        return self.objects.labels

    @property
    def crowd(self) -> Bools:
        """[n] bool."""
        return self.objects.crowd

    def keep(self, rows: Bools) -> Sample:
        """Only the objects where rows [n] is true."""
        return replace(self, objects=self.objects.keep(rows))

    def mapped(
        self, image: Image.Image, scale_xy: tuple[float, float], offset_xy: tuple[float, float] = (0.0, 0.0)
    ) -> Sample:
        """The sample on another image, where here * scale + offset is the new place; boxes are not clipped."""
        (sx, sy), (ox, oy) = scale_xy, offset_xy
        a, b, c, d = self.to_original
        back = (a / sx, b / sy, c - ox * a / sx, d - oy * b / sy)
        return replace(self, image=image, objects=self.objects.moved(scale_xy, offset_xy), to_original=back)

    def resized(self, frame_hw: SizeHW) -> Sample:
        """The sample with its frame (the canvas, or without one the image) brought to frame_hw.

        An image smaller than its canvas keeps its share of it: resizing must not undo a jitter of scale.
        """
        before = self.canvas_hw or self.size_hw
        height = max(1, int(self.size_hw[0] * frame_hw[0] / before[0] + 0.5))
        width = max(1, int(self.size_hw[1] * frame_hw[1] / before[1] + 0.5))
        scale_xy = (width / self.size_hw[1], height / self.size_hw[0])
        resized = self.mapped(resize_image(self.image, (height, width)), scale_xy)
        return replace(resized, canvas_hw=frame_hw if self.canvas_hw else None)

    def windowed(self, size_hw: SizeHW, window: tuple[int, int, int, int]) -> Sample:
        """Resized to size_hw, then cut to window (x1, y1, x2, y2) of that; boxes are not clipped.

        Only the window is resampled: where it is a quarter of the image, so is the work.
        """
        sx, sy = size_hw[1] / self.image.width, size_hw[0] / self.image.height
        x1, y1, x2, y2 = window
        source = (x1 / sx, y1 / sy, min(x2 / sx, self.image.width), min(y2 / sy, self.image.height))
        image = self.image.resize((x2 - x1, y2 - y1), Image.Resampling.BILINEAR, box=source)
        return self.mapped(image, (sx, sy), (-float(x1), -float(y1)))

    def clipped(self, min_side: float = 1.0, min_visible: float = 0.1) -> Sample:
        """Boxes cut at the image's border; dropped where what is left is too little to learn from.

        A box stays if both sides are at least min_side px after the cut and at least min_visible of its area is left; a
        crowd as long as any of it is, since what shows of it would be taught as background.
        """
        cut = self.objects.clipped(self.size_hw)
        sides = cut.boxes[:, 2:] - cut.boxes[:, :2]
        enough = (sides >= min_side).all(axis=1) & (cut.area >= min_visible * self.objects.area)
        return replace(self, objects=cut.keep(np.where(cut.crowd, (sides > 0).all(axis=1), enough)))


def joined(canvas: Sample, parts: Sequence[Sample]) -> Sample:
    """canvas with the objects of all parts, which must lie in its pixels; an empty list leaves none."""
    return replace(canvas, objects=Objects.concat([part.objects for part in parts]))


Draw = Callable[[np.random.Generator], Sample]
"""Another sample of the data set, chosen by the generator, as it lies on the disk (before any transform)."""


class Transform(Checked):
    """A change of a sample. All chance comes from rng; draw gives other samples to those that mix.

    mixes: whether it brings other images into the sample, and is left out where each is to be seen by itself.
    """

    mixes: bool = False

    def __call__(self, sample: Sample, rng: np.random.Generator, draw: Draw) -> Sample:
        raise NotImplementedError
