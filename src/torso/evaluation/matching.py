"""Which detection found which object: the greedy rules of COCO and of the Pascal VOC devkit, in numpy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from torso.evaluation.results import Results
from torso.evaluation.truth import Bools, Floats, GroundTruth, Ints


class Matches(NamedTuple):
    """What became of each of D detections: target [D] row of the truth or -1; ignored [D]: counts for nothing."""

    target: Ints
    ignored: Bools

    @property
    def true(self) -> Bools:
        """[D], found an object that counts."""
        return (self.target >= 0) & ~self.ignored


def pairwise_iou(boxes: Floats, others: Floats, *, crowd: Bools | None = None, plus_one: bool = False) -> Floats:
    """[n, 4], [m, 4] xyxy -> [n, m]; where crowd [m], intersection over the area of boxes; 0 for empty boxes.

    plus_one: sides are x2 - x1 + 1, as in the VOC devkit, whose corners are whole pixels that belong to the box.
    """
    extra = 1.0 if plus_one else 0.0
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    inner = np.clip(high - low + extra, 0, None).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2] + extra).prod(axis=1)[:, None]
    other = (others[:, 2:] - others[:, :2] + extra).prod(axis=1)[None, :]
    whole = area + other - inner
    if crowd is not None:
        whole = np.where(crowd[None, :], area, whole)
    overlap: Floats = np.divide(inner, whole, out=np.zeros_like(inner), where=whole > 0)
    return overlap


def match_coco(truth: GroundTruth, results: Results, iou: float, *, limit: int = 100) -> Matches:
    """COCO's rule at one IoU: best score first, each takes the free object of its class with the highest IoU >= iou.

    Without one it may fall on a crowd region (any number may) and is then ignored, as are those after the first
    `limit` of an image and class.
    """
    matches = _nothing(results)
    boxes, others = results.xyxy, truth.xyxy
    for found, objects in _groups(truth, results):
        matches.ignored[found[limit:]] = True
        if len(objects) == 0:
            continue
        kept = found[:limit]
        overlap = pairwise_iou(boxes[kept], others[objects], crowd=truth.crowd[objects])
        free = ~truth.crowd[objects]
        for row, detection in enumerate(kept):
            best = _highest(overlap[row], free, iou)
            if best < 0:
                best = _highest(overlap[row], truth.crowd[objects], iou)
                matches.ignored[detection] = best >= 0
            if best >= 0:
                matches.target[detection] = objects[best]
                free[best] = False
    return matches


def match_voc(truth: GroundTruth, results: Results, iou: float, *, plus_one: bool = False) -> Matches:
    """The devkit's rule: each takes the object of highest IoU, taken or not; a second one on it is false.

    Difficult objects and crowd regions are ignored, and so is what falls on them.
    """
    matches = _nothing(results)
    uncounted = truth.difficult | truth.crowd
    boxes, others = results.xyxy, truth.xyxy
    for found, objects in _groups(truth, results):
        if len(objects) == 0:
            continue
        overlap = pairwise_iou(boxes[found], others[objects], plus_one=plus_one)
        taken = np.zeros(len(objects), dtype=np.bool_)
        for row, detection in enumerate(found):
            best = int(overlap[row].argmax())
            if overlap[row, best] < iou or (taken[best] and not uncounted[objects[best]]):
                continue
            matches.target[detection] = objects[best]
            matches.ignored[detection] = uncounted[objects[best]]
            taken[best] = True
    return matches


def _nothing(results: Results) -> Matches:
    return Matches(np.full(len(results), -1, dtype=np.int64), np.zeros(len(results), dtype=np.bool_))


def _highest(overlap: Floats, allowed: Bools, iou: float) -> int:
    """Row of the highest allowed overlap, the later one of equals as in COCO; -1 where none reaches iou."""
    if not allowed.any():
        return -1
    masked = np.where(allowed, overlap, -1.0)
    best = len(masked) - 1 - int(masked[::-1].argmax())
    return best if masked[best] >= min(iou, 1 - 1e-10) else -1


def _groups(truth: GroundTruth, results: Results) -> Iterator[tuple[Ints, Ints]]:
    """(rows of results by falling score, rows of truth) of each image and class that has detections."""
    if len(results) == 0:
        return
    classes = max(len(truth.names), 1)
    found_key, object_key = results.image * classes + results.label, truth.image * classes + truth.label
    by_score = np.argsort(-results.score, kind="stable")
    by_group = by_score[np.argsort(found_key[by_score], kind="stable")]
    objects = np.argsort(object_key, kind="stable")
    keys: Ints
    keys, starts = np.unique(found_key[by_group], return_index=True)
    firsts = np.searchsorted(object_key[objects], keys, side="left")
    lasts = np.searchsorted(object_key[objects], keys, side="right")
    ends = [*starts[1:].tolist(), len(by_group)]
    for start, end, first, last in zip(starts, ends, firsts, lasts, strict=True):
        yield by_group[start:end], objects[first:last]
