"""Score sweeps: precision, recall and F1 of each class at every score threshold, and the threshold of the best F1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from torso.evaluation.matching import match_coco
from torso.evaluation.results import ResultsLike, as_results
from torso.evaluation.truth import Floats, TruthLike, as_truth


@dataclass(frozen=True, eq=False)
class Sweep:
    """One class, or all together. Row j: keeping every detection with score >= threshold[j]; thresholds fall.

    threshold, precision, recall, f1: [S], one row a distinct score; empty where nothing was found.
    objects: ground truth without crowds.
    """

    name: str
    threshold: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    objects: int

    @property
    def best(self) -> int | None:
        """Row of the highest F1, the highest threshold of equals; None where F1 is nowhere above 0."""
        return int(self.f1.argmax()) if self.f1.size and self.f1.max() > 0 else None

    @property
    def best_threshold(self) -> float | None:
        """Score that gives the highest F1."""
        return None if self.best is None else float(self.threshold[self.best])


def sweep_scores(truth: TruthLike, results: ResultsLike, *, iou: float = 0.5) -> tuple[Sweep, ...]:
    """One Sweep a class in label order, then one named "all classes" of every detection together (micro average)."""
    ground_truth = as_truth(truth)
    found = as_results(results, ground_truth)
    matches = match_coco(ground_truth, found, iou)
    hit, counts = matches.true, ~matches.ignored
    objects = np.bincount(ground_truth.label[~ground_truth.crowd], minlength=len(ground_truth.names)).tolist()
    sweeps = []
    for label, name in enumerate(ground_truth.names):
        rows = counts & (found.label == label)
        sweeps.append(_sweep(name, found.score[rows], hit[rows], objects[label]))
    return (*sweeps, _sweep("all classes", found.score[counts], hit[counts], sum(objects)))


def pooled_threshold(sweeps: Sequence[Sweep], default: float = 0.5) -> float:
    """The score of the best F1 over all classes together; default where nothing was found."""
    best = sweeps[-1].best_threshold if sweeps else None
    return default if best is None else best


def _sweep(name: str, score: Floats, hit: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], objects: int) -> Sweep:
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.flatnonzero(np.diff(ordered, append=-np.inf) != 0)  # the last row of each distinct score
    true = np.cumsum(hit[order])[last].astype(np.float64)
    precision = true / (last + 1)
    recall = true / objects if objects else np.zeros_like(true)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return Sweep(name, ordered[last], precision, recall, f1, objects)
