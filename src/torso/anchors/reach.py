"""How well priors can reach boxes at all: the best overlap that any prior of a grid has with each box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from torso.data.annotations import Annotations, Bools, Floats
from torso.geometry.priors.points import Points
from torso.inputs._base import Input

AREAS = (("small", 0.0, 32.0**2), ("medium", 32.0**2, 96.0**2), ("large", 96.0**2, np.inf))
"""COCO's sizes: areas in px^2 of the image, as annotated."""


class PriorLevel(NamedTuple):
    """Shapes [A, 2] (width, height) at every place of a level: centres at (place + offset) * stride, input pixels."""

    shapes_wh: Floats
    stride_yx: tuple[float, float]
    offset: float


class InputBoxes(NamedTuple):
    """Boxes as the model sees them: centres and sizes [n, 2] (x, y), and the padded image of each [n, 2] (w, h)."""

    centers_xy: Floats
    sizes_wh: Floats
    canvas_wh: Floats

    def take(self, rows: object) -> InputBoxes:
        """Some rows."""
        return InputBoxes(*(field[rows] for field in self))  # type: ignore[call-overload]


class Reach(NamedTuple):
    """Of a group of boxes: recall is the share that a prior overlaps by the threshold, 0..1; nan without boxes."""

    group: str
    boxes: int
    recall: float
    mean_iou: float


@runtime_checkable
class PlacedShapes(Protocol):
    """A prior generator that puts shapes of its own at every place: anchors, shapes, SSD's default boxes."""

    strides_yx: list[tuple[int, int]]
    offset: float

    def shapes(self) -> list[Tensor]:
        """[A, 2] (width, height) of each level."""


def placed_shapes(priors: object) -> PlacedShapes | None:
    """The generator where it has shapes that could be others; None for points, which only mark places."""
    return priors if isinstance(priors, PlacedShapes) and not isinstance(priors, Points) else None


def levels_of(priors: PlacedShapes) -> list[PriorLevel]:
    """What a prior generator puts at the places of its levels."""
    pairs = zip(priors.shapes(), priors.strides_yx, strict=True)
    return [PriorLevel(wh.double().numpy(force=True), stride, priors.offset) for wh, stride in pairs]


def input_boxes(annotations: Annotations, policy: Input, multiple: int) -> InputBoxes:
    """All boxes but crowds, scaled as this input policy shows their images (tiles: as the first tile is shown)."""
    frames = [_frame(policy, (int(h), int(w)), multiple) for h, w in annotations.size_hw]
    scale = np.array([f[0] for f in frames]).reshape(-1, 2)
    canvas = np.array([f[1] for f in frames]).reshape(-1, 2)
    image = annotations.image_of_box
    boxes = annotations.boxes * np.tile(scale[image], 2)
    seen = InputBoxes((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2], canvas[image])
    return seen.take(~annotations.crowd)


def best_overlap(boxes: InputBoxes, levels: Sequence[PriorLevel], *, placed: bool = True) -> Floats:
    """[n] IoU of each box with the prior that overlaps it most.

    placed: priors stand on their grid, as an assigner by overlap meets them: of one shape the nearest place is the
    best. Without it box and shape share their centre, as YOLO's assigners compare them.
    """
    return overlaps(boxes, levels, placed=placed).max(axis=1)  # type: ignore[no-any-return]


def best_ratio(boxes: InputBoxes, levels: Sequence[PriorLevel]) -> Floats:
    """[n] of each box and the shape most like it: how many times one's side is the other's, the worse of two sides."""
    shapes = np.concatenate([level.shapes_wh for level in levels])
    ratio = boxes.sizes_wh[:, None] / shapes
    return np.maximum(ratio, 1 / ratio).max(axis=2).min(axis=1)  # type: ignore[no-any-return]


def overlaps(boxes: InputBoxes, levels: Sequence[PriorLevel], *, placed: bool) -> Floats:
    """[n, all shapes of all levels]: the IoU of each box with the best placed prior of each shape."""
    return np.concatenate([_level_overlaps(boxes, level, placed) for level in levels], axis=1)


def reach(best: Floats, annotations: Annotations, threshold: float) -> list[Reach]:
    """Of all boxes, of each class that has some, and of each of COCO's sizes; best as best_overlap gave it."""
    kept = ~annotations.crowd
    labels, area = annotations.labels[kept], annotations.area[kept]
    groups = [("all", np.ones(len(best), dtype=np.bool_))]
    groups += [(name, labels == label) for label, name in enumerate(annotations.class_names)]
    groups += [(name, (area >= least) & (area < most)) for name, least, most in AREAS]
    return [_of(name, best[rows], threshold) for name, rows in groups if name == "all" or rows.any()]


def _of(group: str, best: Floats, threshold: float) -> Reach:
    if not len(best):
        return Reach(group, 0, float("nan"), float("nan"))
    reached: Bools = best >= threshold
    return Reach(group, len(best), float(reached.mean()), float(best.mean()))


def _level_overlaps(boxes: InputBoxes, level: PriorLevel, placed: bool) -> Floats:
    apart = np.zeros_like(boxes.centers_xy)
    if placed:
        stride = np.array(level.stride_yx[::-1], dtype=np.float64)
        last = np.ceil(boxes.canvas_wh / stride) - 1
        place = np.clip(np.rint(boxes.centers_xy / stride - level.offset), 0, last)
        apart = np.abs(boxes.centers_xy - (place + level.offset) * stride)
    return pair_iou(boxes.sizes_wh[:, None], level.shapes_wh[None], apart[:, None])


def pair_iou(a_wh: Floats, b_wh: Floats, apart_xy: Floats | float = 0.0) -> Floats:
    """IoU of boxes of these sizes [..., 2] whose centres lie so far apart, along x and y."""
    within = np.minimum(np.minimum(a_wh, b_wh), (a_wh + b_wh) / 2 - apart_xy).clip(min=0)
    inter = within[..., 0] * within[..., 1]
    union = a_wh[..., 0] * a_wh[..., 1] + b_wh[..., 0] * b_wh[..., 1] - inter
    return inter / union  # type: ignore[no-any-return]


def _frame(policy: Input, size_hw: tuple[int, int], multiple: int) -> tuple[tuple[float, float], tuple[int, int]]:
    """((scale x, scale y), (canvas w, canvas h)) of an image of this size."""
    x1, y1, x2, y2 = policy.windows(size_hw)[0]
    height, width = policy.resized((y2 - y1, x2 - x1))
    canvas = policy.padded([(height, width)], multiple)
    return (width / (x2 - x1), height / (y2 - y1)), (canvas[1], canvas[0])


class PlacesInside(NamedTuple):
    """Of each box the places of one level that lie inside it.

    found: [n] whether there are any; nearest, farthest: [n] the least and the largest distance to the box's farthest
    side that such a place has, input pixels (of no meaning where none is found).
    """

    found: Bools
    nearest: Floats
    farthest: Floats


def places_inside(boxes: InputBoxes, level: PriorLevel, *, margin: float = 0.0, radius: float = np.inf) -> PlacesInside:
    """margin: px by which a place must be inside; radius: strides, along x and y, within which it must lie of the box's
    centre.
    """
    stride = np.array(level.stride_yx[::-1], dtype=np.float64)
    half = np.minimum(boxes.sizes_wh / 2 - margin, radius * stride)
    first, last = ((boxes.centers_xy + side * half) / stride - level.offset for side in (-1, 1))
    end = np.ceil(boxes.canvas_wh / stride) - 1
    first, last = np.maximum(np.floor(first) + 1, 0), np.minimum(np.ceil(last) - 1, end)  # strictly inside
    middle = boxes.centers_xy / stride - level.offset
    apart = [np.abs(place - middle) * stride for place in (np.clip(np.rint(middle), first, last), first, last)]
    side = boxes.sizes_wh / 2
    return PlacesInside(
        (first <= last).all(axis=1),
        (side + apart[0]).max(axis=1),
        (side + np.maximum(apart[1], apart[2])).max(axis=1),
    )
