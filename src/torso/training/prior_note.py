"""A warning before training: priors that cannot reach enough of the objects by what the assigner asks for."""

from __future__ import annotations

import numpy as np

from torso.data.annotations import Annotations, Bools
from torso.data.prior_reach import (
    InputBoxes,
    PriorLevel,
    best_overlap,
    best_ratio,
    input_boxes,
    levels_of,
    placed_shapes,
)
from torso.models.detector import Detector
from torso.training.assigners.max_iou import MaxIoU
from torso.training.assigners.ssd import SSD
from torso.training.assigners.yolo_v3 import YOLOv3
from torso.training.assigners.yolo_v5 import YOLOv5
from torso.training.criteria._base import Criterion

_ENOUGH = 0.9  # of the objects
_SAMPLE = 500  # pictures; a look at them takes milliseconds


def prior_note(model: Detector, criterion: Criterion, train: Annotations) -> str | None:
    """A sentence where fewer than nine in ten objects can be reached; None otherwise.

    An object is reached if some prior overlaps it by the assigner's threshold, or is like it within the assigner's
    ratio of sides. Assigners without such a bound (ATSS, FCOS, YOLOv3) take what is nearest or most alike, and points
    have no shape: nothing is said of those.
    """
    priors = placed_shapes(getattr(getattr(model.head, "proposer", model.head), "priors", None))
    assigner = assigner_of(criterion)
    if priors is None or (_threshold(assigner) is None and not isinstance(assigner, YOLOv5)):
        return None
    some = train.keep_images(_evenly(len(train), _SAMPLE))
    boxes = input_boxes(some, model.input, model.multiple)
    if not len(boxes.sizes_wh):
        return None
    reached, asked = _reached(assigner, boxes, levels_of(priors))
    if reached.mean() >= _ENOUGH:
        return None
    return (
        f"priors: only {reached.mean():.0%} of {len(reached)} objects looked at can be {asked}, as the assigner asks; "
        "the others are learned badly or not at all: `torso anchors` fits shapes to the data"
    )


def assigner_of(criterion: Criterion) -> object:
    """The assigner of a dense head's priors (of two stages the first's); None where there is none."""
    return getattr(getattr(criterion, "first", criterion), "assigner", None)


def compares_centred(assigner: object) -> bool:
    """Whether it compares the shapes of priors and objects alone, as if their centres were one."""
    return isinstance(assigner, YOLOv3 | YOLOv5)


def _reached(assigner: object, boxes: InputBoxes, levels: list[PriorLevel]) -> tuple[Bools, str]:
    """[n] whether each box is reached, and by what."""
    if isinstance(assigner, YOLOv5):
        return best_ratio(boxes, levels) < assigner.max_ratio, f"matched within {assigner.max_ratio:g} times its sides"
    threshold = _threshold(assigner)
    assert threshold is not None
    return best_overlap(boxes, levels) >= threshold, f"overlapped by {threshold:g}"


def _threshold(assigner: object) -> float | None:
    """The IoU that gives an object a prior; where the best prior is rescued from some IoU on, that one."""
    if isinstance(assigner, SSD):
        return assigner.threshold
    if not isinstance(assigner, MaxIoU):
        return None
    rescued = assigner.rescue_above if assigner.rescue else 0.0
    return min(assigner.positive, rescued) if rescued > 0 else assigner.positive


def _evenly(count: int, most: int) -> Bools:
    """[count] bool: at most so many rows, evenly over all."""
    kept = np.zeros(count, dtype=np.bool_)
    kept[np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)] = True
    return kept
