"""A warning before training: priors that overlap too few of the objects by what the assigner asks for."""

from __future__ import annotations

import numpy as np

from torso.data.annotations import Annotations
from torso.data.prior_reach import best_overlap, input_boxes, levels_of
from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.shapes import Shapes
from torso.models.detector import Detector
from torso.training.criteria._base import Criterion

_ENOUGH = 0.9  # of the objects
_SAMPLE = 500  # pictures; a look at them takes milliseconds


def prior_note(model: Detector, criterion: Criterion, train: Annotations) -> str | None:
    """A sentence where fewer than nine in ten objects can be reached; None otherwise.

    An object is reached if some prior overlaps it by the assigner's threshold. Assigners without one (ATSS, FCOS) take
    what is nearest, whatever its overlap, and points have no shape: nothing is said of those.
    """
    priors = getattr(getattr(model.head, "proposer", model.head), "priors", None)
    threshold = _threshold(getattr(getattr(criterion, "first", criterion), "assigner", None))
    if not isinstance(priors, Anchors | Shapes) or threshold is None:
        return None
    some = train.keep_images(_evenly(len(train), _SAMPLE))
    boxes = input_boxes(some, model.input, model.multiple)
    if not len(boxes.sizes_wh):
        return None
    share = float((best_overlap(boxes, levels_of(priors)) >= threshold).mean())
    if share >= _ENOUGH:
        return None
    return (
        f"priors: only {share:.0%} of {len(boxes.sizes_wh)} objects looked at can be overlapped by {threshold:g}, as "
        "the assigner asks; the others are learned badly or not at all: `torso anchors` fits shapes to the data"
    )


def _threshold(assigner: object) -> float | None:
    """The IoU that gives an object a prior; where the best prior is rescued from some IoU on, that one."""
    positive = getattr(assigner, "positive", None)
    if not isinstance(positive, float):
        return None
    rescued = float(getattr(assigner, "rescue_above", 0.0)) if getattr(assigner, "rescue", False) else 0.0
    return min(positive, rescued) if rescued > 0 else positive


def _evenly(count: int, most: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """[count] bool: at most so many rows, evenly over all."""
    kept = np.zeros(count, dtype=np.bool_)
    kept[np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)] = True
    return kept
