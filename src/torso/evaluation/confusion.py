"""What is taken for what: a confusion table of classes, and how well each single image was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from torso.evaluation.matching import match_coco, pairwise_iou
from torso.evaluation.results import Results, ResultsLike, as_results
from torso.evaluation.truth import Floats, GroundTruth, Ints, TruthLike, as_truth


@dataclass(frozen=True, eq=False)
class Confusion:
    """counts [K + 1, K + 1]: row the true class (last: nothing there), column the predicted one (last: missed)."""

    names: tuple[str, ...]
    counts: Ints
    score: float
    iou: float


def confusion(truth: TruthLike, results: ResultsLike, *, score: float, iou: float = 0.5) -> Confusion:
    """Pairs detections of at least this score with objects of any class, highest IoU first, each used once.

    Among equal IoUs a pair of the same class goes first. What falls on a crowd region and nothing else is left out.
    """
    ground_truth = as_truth(truth)
    found = as_results(results, ground_truth)
    size = len(ground_truth.names)
    counts = np.zeros((size + 1, size + 1), dtype=np.int64)
    boxes = _Boxes(ground_truth.xyxy, found.xyxy)
    for image in range(len(ground_truth.image_ids)):
        objects = np.flatnonzero((ground_truth.image == image) & ~ground_truth.crowd)
        rows = np.flatnonzero((found.image == image) & (found.score >= score))
        pairs = _pair(ground_truth, found, boxes, objects, rows, iou)
        used_objects, used_rows = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
        for target, row in pairs:
            counts[ground_truth.label[target], found.label[row]] += 1
        for target in set(objects.tolist()) - used_objects:
            counts[ground_truth.label[target], size] += 1
        for row in set(rows.tolist()) - used_rows - _on_crowd(ground_truth, found, boxes, image, rows, iou):
            counts[size, found.label[row]] += 1
    return Confusion(ground_truth.names, counts, score, iou)


def image_f1(truth: TruthLike, results: ResultsLike, *, score: float, iou: float = 0.5) -> Floats:
    """[I] F1 of each image over all classes, keeping detections of at least this score.

    It is 1 where nothing was there and nothing was found.
    """
    ground_truth = as_truth(truth)
    found = as_results(results, ground_truth)
    matches = match_coco(ground_truth, found, iou)
    kept = (found.score >= score) & ~matches.ignored
    images = len(ground_truth.image_ids)
    true = np.bincount(found.image[kept & matches.true], minlength=images)
    answered = np.bincount(found.image[kept], minlength=images)
    objects = np.bincount(ground_truth.image[~ground_truth.crowd], minlength=images)
    both = (answered + objects).astype(np.float64)
    scores: Floats = np.divide(2.0 * true, both, out=np.ones(images), where=both > 0)
    return scores


class _Boxes(NamedTuple):
    """Corners of all objects and of all detections, computed once."""

    truth: Floats
    found: Floats


def _pair(
    truth: GroundTruth, found: Results, boxes: _Boxes, objects: Ints, rows: Ints, iou: float
) -> list[tuple[int, int]]:
    overlap = pairwise_iou(boxes.truth[objects], boxes.found[rows])
    same = truth.label[objects][:, None] == found.label[rows][None, :]
    first, second = np.nonzero(overlap >= iou)
    order = np.lexsort((~same[first, second], -overlap[first, second]))
    pairs: list[tuple[int, int]] = []
    used_first, used_second = set[int](), set[int]()
    for a, b in zip(first[order].tolist(), second[order].tolist(), strict=True):
        if a not in used_first and b not in used_second:
            used_first.add(a)
            used_second.add(b)
            pairs.append((int(objects[a]), int(rows[b])))
    return pairs


def _on_crowd(truth: GroundTruth, found: Results, boxes: _Boxes, image: int, rows: Ints, iou: float) -> set[int]:
    crowds = np.flatnonzero((truth.image == image) & truth.crowd)
    if len(crowds) == 0 or len(rows) == 0:
        return set()
    overlap = pairwise_iou(boxes.found[rows], boxes.truth[crowds], crowd=np.ones(len(crowds), dtype=np.bool_))
    same = truth.label[crowds][None, :] == found.label[rows][:, None]
    return {int(row) for row in rows[((overlap >= iou) & same).any(axis=1)]}
