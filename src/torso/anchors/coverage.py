"""A warning before training: priors that cannot reach enough of the objects by what the assigner asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from torso.anchors.reach import (
    InputBoxes,
    PlacedShapes,
    PriorLevel,
    best_overlap,
    best_ratio,
    input_boxes,
    levels_of,
    placed_shapes,
    places_inside,
)
from torso.data.annotations import Annotations, Bools
from torso.models.detector import Detector
from torso.training.assigners.atss import ATSSAssigner
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assigners.ssd import SSDAssigner
from torso.training.assigners.task_aligned import TaskAlignedAssigner
from torso.training.assigners.yolo_v3 import YOLOv3Assigner
from torso.training.assigners.yolo_v5 import YOLOv5Assigner
from torso.training.criteria._base import Criterion

_ENOUGH = 0.9  # of the objects
_SAMPLE = 500  # images; a look at them takes milliseconds
_FIT = "`torso anchors` fits shapes to the data"
_CLOSER = "larger images (input.size_hw) or finer levels (neck.finest, head.finest) bring locations closer"


class _Rule(NamedTuple):
    """What an assigner asks of priors: which boxes are reached, in words, and what helps the others."""

    reached: Callable[[InputBoxes, list[PriorLevel]], Bools]
    asked: str
    remedy: str


def prior_note(model: Detector, criterion: Criterion, train: Annotations) -> str | None:
    """A sentence where fewer than nine in ten objects can be reached; None otherwise.

    An object is reached if some prior overlaps it by the assigner's threshold, is like it within the assigner's ratio
    of sides, or, where the assigner looks at centres (FCOS, ATSS, task-aligned), has its centre inside it (FCOS: on a
    level that takes its size); so, too, of points whose codes are distances. Otherwise YOLOv2, YOLOv3, SimOTA and PAA
    give every object a prior: nothing is said of those.
    """
    head = getattr(model.head, "proposer", model.head)
    priors = getattr(head, "priors", None)
    shaped = placed_shapes(priors) is not None
    held = not shaped and getattr(getattr(head, "coder", None), "holds_center", False)
    rule = _rule(assigner_of(criterion), shaped=shaped, held=held)
    if rule is None or not isinstance(priors, PlacedShapes):
        return None
    some = train.keep_images(_evenly(len(train), _SAMPLE))
    boxes = input_boxes(some, model.input, model.multiple)
    if not len(boxes.sizes_wh):
        return None
    reached = rule.reached(boxes, levels_of(priors))
    if reached.mean() >= _ENOUGH:
        return None
    return (
        f"priors: only {reached.mean():.0%} of {len(reached)} objects looked at {rule.asked}, as the assigner asks; "
        f"the others are learned badly or not at all: {rule.remedy}"
    )


def assigner_of(criterion: Criterion) -> object:
    """The assigner of a dense head's priors (of two stages the first's); None where there is none."""
    return getattr(getattr(criterion, "first", criterion), "assigner", None)


def compares_centred(assigner: object) -> bool:
    """Whether it compares the shapes of priors and objects alone, as if their centres were one."""
    return isinstance(assigner, YOLOv3Assigner | YOLOv5Assigner)


def _rule(assigner: object, *, shaped: bool, held: bool) -> _Rule | None:
    """None where every object gets a prior. shaped: the priors have shapes, which could be others. held: they have
    none, and their codes say only boxes that hold them.
    """
    if isinstance(assigner, FCOSAssigner):
        return _Rule(lambda boxes, levels: _in_range(assigner, boxes, levels), "hold a point of their level", _CLOSER)
    if held or isinstance(assigner, ATSSAssigner | TaskAlignedAssigner):
        return _Rule(_hold_a_center, "hold the centre of a prior", _CLOSER)
    if not shaped:
        return None
    if isinstance(assigner, YOLOv5Assigner):
        most = assigner.max_ratio
        asked = f"can be matched within {most:g} times their sides"
        return _Rule(lambda boxes, levels: best_ratio(boxes, levels) < most, asked, _FIT)
    least = _threshold(assigner)
    if least is None:
        return None
    return _Rule(lambda boxes, levels: best_overlap(boxes, levels) >= least, f"can be overlapped by {least:g}", _FIT)


def _hold_a_center(boxes: InputBoxes, levels: list[PriorLevel]) -> Bools:
    """[n]: some level has a place inside, by the 0.01 px of the authors' code."""
    found: Bools = np.any([places_inside(boxes, level, margin=0.01).found for level in levels], axis=0)
    return found


def _in_range(assigner: FCOSAssigner, boxes: InputBoxes, levels: list[PriorLevel]) -> Bools:
    """[n]: some level has a place inside whose farthest side lies in the level's range. From one place to the next that
    distance changes by a stride at most, a range is half of range_scale strides wide: none is stepped over from 2 on.
    """
    reached = np.zeros(len(boxes.sizes_wh), dtype=np.bool_)
    for number, level in enumerate(levels):
        inside = places_inside(boxes, level, radius=assigner.radius or np.inf)
        high = max(level.stride_yx) * assigner.range_scale
        low = high / 2 if number else 0.0
        high = high if number < len(levels) - 1 else np.inf
        reached |= inside.found & (inside.nearest <= high) & (inside.farthest > low)
    return reached


def _threshold(assigner: object) -> float | None:
    """The IoU that gives an object a prior; where the best prior is rescued from some IoU on, that one."""
    if isinstance(assigner, SSDAssigner):
        return assigner.threshold
    if not isinstance(assigner, MaxIoUAssigner):
        return None
    rescued = assigner.rescue_above if assigner.rescue else 0.0
    return min(assigner.positive, rescued) if rescued > 0 else assigner.positive


def _evenly(count: int, most: int) -> Bools:
    """[count] bool: at most so many rows, evenly over all."""
    kept = np.zeros(count, dtype=np.bool_)
    kept[np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)] = True
    return kept
