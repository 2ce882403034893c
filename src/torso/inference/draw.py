"""Drawing: predictions, ground truth and priors on an image, never alike in colour or line.

Predictions are solid, one colour a class, with name and score on a filled label; ground truth is dashed green;
priors are dotted cyan with a cross at the centre. The class colours leave out green and cyan.
Line width and font grow with the image; tiny images are enlarged so that labels can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from torso.bounds import Positive
from torso.images import Source, read_image
from torso.plain_values import checked
from torso.types import Priors

Rgb = tuple[int, int, int]
_Rect = tuple[float, float, float, float]

TRUTH_COLOUR: Rgb = (0, 230, 90)
PRIOR_COLOUR: Rgb = (0, 220, 235)
_DARK: Rgb = (16, 16, 16)
_PALETTE: tuple[Rgb, ...] = (
    (255, 64, 64), (64, 132, 255), (255, 170, 0), (196, 82, 255), (255, 98, 178), (255, 236, 66),
    (130, 110, 255), (190, 96, 40), (178, 200, 255), (224, 20, 110), (255, 198, 150), (110, 60, 190),
    (255, 120, 20), (236, 176, 255), (40, 80, 190), (160, 30, 40),
)  # fmt: skip


class Found(Protocol):
    """Predictions to draw, best first, such as Detections.

    boxes: [n, 4] xyxy original pixels; scores, labels: [n]; names: the class names that labels number; masks:
    [n, H, W] bool or None.
    """

    @property
    def boxes(self) -> Tensor: ...
    @property
    def scores(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def masks(self) -> Tensor | None: ...


class Truth(NamedTuple):
    """Ground truth to draw: boxes [m, 4] xyxy original pixels, labels [m] rows of names, crowd [m] bool or None."""

    boxes: Tensor
    labels: Tensor | None = None
    names: tuple[str, ...] = ()
    crowd: Tensor | None = None


def class_colour(label: int) -> Rgb:
    """RGB of a class; the colours come again after sixteen classes (the label says the name)."""
    return _PALETTE[label % len(_PALETTE)]


@checked
def draw(
    image: Source,
    detections: Found | None = None,
    *,
    truth: Truth | None = None,
    priors: Priors | Tensor | None = None,
    labels: bool = True,
    min_side: int = 448,
    size: Positive = 1.0,
    font: str | Path | None = None,
) -> Image.Image:
    """A new RGB image with everything given on it, worst prediction first so that the best lies on top.

    priors: Priors or boxes [N, 4] xyxy; labels: write names and scores; min_side: an image whose longer side is
    below it is enlarged by a whole factor (0: never); size: of lines and letters, 1 suits an image seen at full size;
    font: a TrueType file for names that Latin letters cannot write.
    """
    canvas = _Canvas(read_image(image), min_side, size, font)
    if priors is not None:
        canvas.priors(priors.boxes if isinstance(priors, Priors) else priors)
    if detections is not None and detections.masks is not None:
        canvas.masks(detections.masks, detections.labels)
    if truth is not None:
        canvas.truth(truth, labels)
    if detections is not None:
        canvas.predictions(detections, labels)
    return canvas.finish()


class _Canvas:
    """An image being drawn on: scale, line width, font, and where labels lie already."""

    def __init__(self, image: Image.Image, min_side: int, size: float, font: str | Path | None) -> None:
        self.scale = max(1, -(-min_side // max(image.size))) if max(image.size) < min_side else 1
        if self.scale > 1:
            enlarged = (image.width * self.scale, image.height * self.scale)
            image = image.resize(enlarged, Image.Resampling.BICUBIC)
        self.image = image
        self.pen = ImageDraw.Draw(image)
        side = size * (image.width * image.height) ** 0.5  # by the longer side, a panorama's letters were too big
        self.line = max(2, round(side / 300))
        size_px = max(round(11 * size), round(side / 45))
        self.font = ImageFont.truetype(str(font), size_px) if font is not None else ImageFont.load_default(size_px)
        self.taken: list[_Rect] = []
        self.waiting: list[tuple[str, _Rect, Rgb, bool]] = []

    def priors(self, boxes: Tensor) -> None:
        """Dotted, one line thin, so that hundreds can be told apart."""
        width = max(1, round(self.line * 0.6))
        for rect in self._rects(boxes):
            _pattern(self.pen, rect, PRIOR_COLOUR, width, on=width + 1, off=2 * width + 1)
            x, y, arm = (rect[0] + rect[2]) / 2, (rect[1] + rect[3]) / 2, 2 * width
            self.pen.line((x - arm, y, x + arm, y), fill=PRIOR_COLOUR, width=width)
            self.pen.line((x, y - arm, x, y + arm), fill=PRIOR_COLOUR, width=width)

    def masks(self, masks: Tensor, labels: Tensor) -> None:
        """Fills each mask [n, H, W] with its class colour at 40 % opacity."""
        for mask, label in zip(masks.cpu().numpy(), labels.tolist(), strict=True):
            alpha = Image.fromarray(mask.astype(np.uint8) * 102).resize(self.image.size, Image.Resampling.NEAREST)
            self.image.paste(Image.new("RGB", self.image.size, class_colour(label)), mask=alpha)

    def truth(self, truth: Truth, labels: bool) -> None:
        """Dashed green, dark beneath, so that it is seen on leaves too; the name stands below the box."""
        crowd = truth.crowd.tolist() if truth.crowd is not None else [False] * len(truth.boxes)
        names = _truth_names(truth)
        for rect, name, is_crowd in zip(self._rects(truth.boxes), names, crowd, strict=True):
            for colour, width in ((_DARK, self.line + 3), (TRUTH_COLOUR, self.line + 1)):
                _pattern(self.pen, rect, colour, width, on=4 * self.line, off=3 * self.line)
            if labels and name:
                self.waiting.append((f"{name} (crowd)" if is_crowd else name, rect, TRUTH_COLOUR, False))

    def predictions(self, found: Found, labels: bool) -> None:
        """Solid in the class colour within a dark hairline; best drawn last, its label placed first."""
        rects = self._rects(found.boxes)
        for rect, label in reversed(list(zip(rects, found.labels.tolist(), strict=True))):
            x1, y1, x2, y2 = rect
            self.pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=_DARK, width=1)
            self.pen.rectangle(rect, outline=class_colour(label), width=self.line)
        if labels:
            scored = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
            texts = [f"{found.names[label]} {score:.2f}" for label, score in scored]
            colours = [class_colour(label) for label in found.labels.tolist()]
            self.waiting.extend(zip(texts, rects, colours, [True] * len(rects), strict=True))

    def finish(self) -> Image.Image:
        """Labels last, over all lines."""
        placed = [(text, self._place(text, rect, above), colour) for text, rect, colour, above in self.waiting]
        pad = self.line
        for text, box, colour in reversed(placed):
            self.pen.rectangle(box, fill=colour)
            self.pen.text((box[0] + pad, box[1] + pad), text, fill=_ink_on(colour), font=self.font, anchor="lt")
        return self.image

    def _place(self, text: str, rect: _Rect, above: bool) -> _Rect:
        left, top, right, bottom = self.pen.textbbox((0, 0), text, font=self.font, anchor="lt")
        w, h = right - left + 2 * self.line, bottom - top + 2 * self.line
        x1, y1, x2, y2 = rect
        over, under = [(x1, y1 - h), (x2 - w, y1 - h), (x1, y1)], [(x1, y2), (x2 - w, y2), (x1, y2 - h)]
        options = [self._inside(x, y, w, h) for x, y in (over + under if above else under + over)]
        free = [box for box in options if not any(_overlap(box, other) for other in self.taken)]
        chosen = free[0] if free else options[0]
        self.taken.append(chosen)
        return chosen

    def _inside(self, x: float, y: float, w: float, h: float) -> _Rect:
        """The label moved into the image; one wider than the image keeps its beginning in view."""
        x = max(0.0, min(x, self.image.width - w))
        y = max(0.0, min(y, self.image.height - h))
        return (x, y, x + w, y + h)

    def _rects(self, boxes: Tensor) -> list[_Rect]:
        limit_x, limit_y = self.image.width - 1, self.image.height - 1
        return [
            (min(max(x1, 0), limit_x), min(max(y1, 0), limit_y), min(max(x2, 0), limit_x), min(max(y2, 0), limit_y))
            for x1, y1, x2, y2 in (boxes.detach().cpu().double() * self.scale).tolist()
        ]


def _truth_names(truth: Truth) -> list[str]:
    if truth.labels is None or not truth.names:
        return [""] * len(truth.boxes)
    return [truth.names[label] for label in truth.labels.tolist()]


def _pattern(pen: ImageDraw.ImageDraw, rect: _Rect, colour: Rgb, width: int, *, on: int, off: int) -> None:
    """A rectangle of dashes `on` long and `off` apart, clockwise."""
    x1, y1, x2, y2 = rect
    for a, b in _dashes(x1, x2, on, off):
        pen.line((a, y1, b, y1), fill=colour, width=width)
        pen.line((a, y2, b, y2), fill=colour, width=width)
    for a, b in _dashes(y1, y2, on, off):
        pen.line((x1, a, x1, b), fill=colour, width=width)
        pen.line((x2, a, x2, b), fill=colour, width=width)


def _dashes(start: float, stop: float, on: int, off: int) -> Iterable[tuple[float, float]]:
    place = start
    while place <= stop:
        yield place, min(place + on, stop)
        place += on + off


def _overlap(a: _Rect, b: _Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink_on(colour: Rgb) -> Rgb:
    """Dark letters on light colours, white on dark ones (luma of ITU-R BT.601)."""
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return _DARK if luma > 130 else (255, 255, 255)


def side_by_side(images: Sequence[Image.Image], gap: int = 8) -> Image.Image:
    """Images in one row on white, top edges aligned; ValueError for none."""
    if not images:
        raise ValueError("no images came; give at least one")
    width = sum(one.width for one in images) + gap * (len(images) - 1)
    row = Image.new("RGB", (width, max(one.height for one in images)), (255, 255, 255))
    left = 0
    for one in images:
        row.paste(one, (left, 0))
        left += one.width + gap
    return row
