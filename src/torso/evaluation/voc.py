"""Pascal VOC average precision (Everingham et al. 2010): 11 points (VOC2007) or the whole curve (VOC2010 and later)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from torso.evaluation.matching import match_voc
from torso.evaluation.results import ResultsLike, as_results
from torso.evaluation.truth import Floats, Ints, TruthLike, as_truth


@dataclass(frozen=True)
class VocClass:
    """AP 0..1 of one class, nan without objects that count; objects: those neither difficult nor crowd."""

    name: str
    AP: float
    objects: int


@dataclass(frozen=True)
class VocScores:
    """mAP 0..1 over the classes that have objects (nan where none has), and how it was measured."""

    mAP: float
    per_class: tuple[VocClass, ...]
    iou: float
    eleven_points: bool
    plus_one: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def evaluate_voc(
    truth: TruthLike, results: ResultsLike, *, iou: float = 0.5, eleven_points: bool = False, plus_one: bool = False
) -> VocScores:
    """VOC AP of each class at one IoU (a detection that just reaches it counts, as in the devkit's VOCevaldet).

    eleven_points: the VOC2007 rule; plus_one: sides of x2 - x1 + 1, the devkit's; give it boxes that are whole
    pixels with x2, y2 inside the object, as VOC's XML has them.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou is {iou}; wanted a number above 0 and up to 1")
    ground_truth = as_truth(truth)
    found = as_results(results, ground_truth)
    matches = match_voc(ground_truth, found, iou, plus_one=plus_one)
    counts = ~(ground_truth.difficult | ground_truth.crowd)
    objects = np.bincount(ground_truth.label[counts], minlength=len(ground_truth.names))
    per_class = []
    for label, name in enumerate(ground_truth.names):
        rows = np.flatnonzero((found.label == label) & ~matches.ignored)
        rows = rows[np.argsort(-found.score[rows], kind="stable")]
        hits = np.cumsum(matches.true[rows].astype(np.int64))
        average = _eleven_points if eleven_points else _area
        per_class.append(VocClass(name, average(hits, int(objects[label])), int(objects[label])))
    known = [one.AP for one in per_class if one.objects]
    return VocScores(float(np.mean(known)) if known else float("nan"), tuple(per_class), iou, eleven_points, plus_one)


def _eleven_points(hits: Ints, objects: int) -> float:
    """Mean of the best precision at recall >= 0, .1, ... 1; hits [d] counts true detections up to each.

    The points are k * 0.1 in floats, so 3 of 10 objects do not reach the point of 0.3 (3 * 0.1 > 0.3), nor do 9 of 15
    reach 0.6: so it is in the ports of the devkit to Python, and published figures hold this in them.
    """
    if objects == 0:
        return float("nan")
    precision = hits / np.arange(1, len(hits) + 1)
    recall = hits / objects
    return float(np.mean([precision[recall >= tenth * 0.1].max(initial=0.0) for tenth in range(11)]))


def _area(hits: Ints, objects: int) -> float:
    """Area under precision made to fall, summed where recall rises; hits [d] counts true detections up to each."""
    if objects == 0:
        return float("nan")
    precision: Floats = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * np.diff(hits, prepend=0)).sum() / objects)
