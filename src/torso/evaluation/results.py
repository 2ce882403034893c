"""Detections of many images as flat arrays, checked against the ground truth they will be evaluated by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from torso.evaluation.truth import Floats, GroundTruth, Ints


@dataclass(frozen=True, eq=False)
class Results:
    """D detections: image [D] rows of the truth's image_ids, label [D] 0..K-1, xywh [D, 4] px, score [D]."""

    image: Ints
    label: Ints
    xywh: Floats
    score: Floats

    @classmethod
    def from_coco(cls, results: Sequence[Mapping[str, Any]], truth: GroundTruth) -> Results:
        """COCO result dicts (image_id, category_id, bbox, score), read and never changed.

        ValueError for unknown ids, boxes that are not four finite numbers x, y, w >= 0, h >= 0, and scores that are
        not finite numbers: it names the row of the first one.
        """
        image_row = {int(one): row for row, one in enumerate(truth.image_ids)}
        label_row = {int(one): row for row, one in enumerate(truth.category_ids)}
        found = _read(cls, results, image_row, label_row)
        if found is None:  # something is wrong somewhere: look at them one by one to say what and where
            for row, result in enumerate(results):
                _check(row, result, image_row, label_row, truth)
            raise ValueError("the results are no list of COCO result dicts: image_id, category_id, bbox, score each")
        return found

    @classmethod
    def join(cls, parts: Sequence[Results]) -> Results:
        """One after the other; no parts make no detections."""
        if not parts:
            none = np.zeros(0, dtype=np.int64)
            return cls(none, none, np.zeros((0, 4)), np.zeros(0))
        return cls(
            image=np.concatenate([part.image for part in parts]),
            label=np.concatenate([part.label for part in parts]),
            xywh=np.concatenate([part.xywh for part in parts]),
            score=np.concatenate([part.score for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.score)

    @property
    def xyxy(self) -> Floats:
        """[D, 4] corners, original pixels."""
        return np.concatenate([self.xywh[:, :2], self.xywh[:, :2] + self.xywh[:, 2:]], axis=1)

    def to_coco(self, truth: GroundTruth) -> list[dict[str, Any]]:
        """COCO result dicts with the data set's own ids."""
        ids = zip(truth.image_ids[self.image].tolist(), truth.category_ids[self.label].tolist(), strict=True)
        rows = zip(ids, self.xywh.tolist(), self.score.tolist(), strict=True)
        return [{"image_id": i, "category_id": c, "bbox": box, "score": score} for (i, c), box, score in rows]


ResultsLike = Results | Sequence[Mapping[str, Any]]
"""What every evaluation takes as detections: Results or COCO result dicts."""


def as_results(results: ResultsLike, truth: GroundTruth) -> Results:
    """Any ResultsLike as Results; ValueError for what cannot be evaluated."""
    return results if isinstance(results, Results) else Results.from_coco(results, truth)


def _read(
    cls: type[Results], results: Sequence[Mapping[str, Any]], images: dict[int, int], labels: dict[int, int]
) -> Results | None:
    """All rows at once; None where any of them is not as it should be."""
    try:
        image = np.array([images[one["image_id"]] for one in results], dtype=np.int64)
        label = np.array([labels[one["category_id"]] for one in results], dtype=np.int64)
        boxes = np.array([one["bbox"] for one in results])
        score = np.array([one["score"] for one in results])
    except (KeyError, TypeError, ValueError):
        return None
    if not len(results):
        return cls.join([])
    if boxes.shape != (len(results), 4) or score.ndim != 1 or boxes.dtype.kind not in "biuf":
        return None
    if score.dtype.kind not in "biuf" or not np.isfinite(boxes).all() or not np.isfinite(score).all():
        return None
    if (boxes[:, 2:] < 0).any():
        return None
    return cls(image, label, boxes.astype(np.float64), score.astype(np.float64))


def _check(
    row: int, result: Mapping[str, Any], images: dict[int, int], labels: dict[int, int], truth: GroundTruth
) -> None:
    missing = [key for key in ("image_id", "category_id", "bbox", "score") if key not in result]
    if missing:
        raise ValueError(f"result {row} has no {', '.join(missing)}; wanted image_id, category_id, bbox and score")
    if result["image_id"] not in images:
        raise ValueError(
            f"result {row}: image_id {result['image_id']!r} is not among the {len(images)} images evaluated"
        )
    if result["category_id"] not in labels:
        known = ", ".join(str(one) for one in truth.category_ids[:10].tolist())
        raise ValueError(f"result {row}: category_id {result['category_id']!r} is not in the data set; it has {known}")
    box, score = result["bbox"], result["score"]
    if not hasattr(box, "__len__") or len(box) != 4 or not all(_finite(value) for value in box):
        raise ValueError(f"result {row}: bbox is {box!r}; wanted four finite numbers [x, y, w, h] in pixels")
    if box[2] < 0 or box[3] < 0:
        raise ValueError(f"result {row}: bbox {list(box)} has a negative side; wanted [x, y, w, h], not corners")
    if not _finite(score):
        raise ValueError(f"result {row}: score is {score!r}; wanted a finite number")


def _finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(float(value))
