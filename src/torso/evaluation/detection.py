"""COCO detection scores (Lin et al. 2014, the official twelve numbers) by faster-coco-eval, pycocotools' to 1e-15."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster

from torso.evaluation.coco import run_coco
from torso.evaluation.results import Results, ResultsLike, as_results
from torso.evaluation.truth import GroundTruth, TruthLike, as_truth
from torso.inference.detections import Detections

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""The twelve numbers in the order of pycocotools' stats."""

ABSENT = -1.0
"""COCO's mark of a number that has no ground truth to speak of (no small objects, no object of the class)."""


@dataclass(frozen=True)
class ClassScores:
    """One class: scores 0..1 (-1 without ground truth) and how many objects and detections there were."""

    name: str
    category_id: int
    AP: float
    AP50: float
    AP75: float
    AR100: float
    boxes: int
    detections: int


@dataclass(frozen=True)
class DetectionScores:
    """COCO's twelve numbers, 0..1, or -1 where the ground truth has nothing to measure them on.

    AP is the mean over IoU 0.50:0.95:0.05 and classes; s, m, l are areas below 32^2, to 96^2 and above, px^2.
    images, boxes (crowd regions not counted), crowds and detections say what was evaluated.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float
    per_class: tuple[ClassScores, ...]
    images: int
    boxes: int
    crowds: int
    detections: int

    @property
    def stats(self) -> tuple[float, ...]:
        """The twelve numbers in pycocotools' order."""
        return tuple(float(getattr(self, name)) for name in STATS)

    @property
    def numbers(self) -> dict[str, float]:
        """The twelve by name."""
        return dict(zip(STATS, self.stats, strict=True))

    def brief(self) -> str:
        """AP and AP50 in percent."""
        return f"AP {100 * self.AP:.1f}  AP50 {100 * self.AP50:.1f}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """A table for the terminal, in percent; a dash where there was nothing to measure."""
        head = f"{self.images} images, {self.boxes} boxes, {self.crowds} crowd regions, {self.detections} detections"
        numbers = [f"{name:>6} {percent(getattr(self, name)):>5}" for name in STATS]
        rows = ["".join(numbers[start : start + 6]) for start in (0, 6)]
        width = max((len(one.name) for one in self.per_class), default=5)
        classes = [
            f"{one.name:<{width}}  AP {percent(one.AP):>5}  AP50 {percent(one.AP50):>5}  "
            f"AR100 {percent(one.AR100):>5}  {one.boxes:>6} boxes"
            for one in self.per_class
        ]
        return "\n".join([head, *rows, *classes])


def percent(score: float) -> str:
    """0.4567 -> 45.7; a dash for COCO's -1."""
    return "-" if score <= ABSENT else f"{100 * score:.1f}"


def evaluate_detections(
    truth: TruthLike, results: ResultsLike, *, image_ids: Sequence[int] | None = None
) -> DetectionScores:
    """The twelve numbers and per-class AP of results on truth; neither is changed, results may be empty.

    image_ids: evaluate on these images only (the data set's ids); without it on all, and an image without results
    counts as one where nothing was found. ValueError for results that name unknown ids or hold no valid boxes.
    """
    ground_truth = as_truth(truth)
    found = as_results(results, ground_truth)
    rows = _image_rows(ground_truth, image_ids)
    run = run_coco(ground_truth, found, rows)
    return _scores(run, ground_truth, found, rows)


class DetectionEvaluator:
    """Collects detections image by image, on one rank or many, and evaluates them together.

    Model and data set meet by class name: a model with other classes is refused, unless drop_unknown says that its
    detections of classes that the data set does not have shall be left out.
    """

    def __init__(self, truth: TruthLike, *, drop_unknown: bool = False) -> None:
        self.truth = as_truth(truth)
        self.drop_unknown = drop_unknown
        self._found: dict[int, Results] = {}

    def add(self, image_index: int, detections: Detections) -> None:
        """Detections, in original pixels, of the image in this row of the truth; the first of one image stays."""
        if not 0 <= image_index < len(self.truth.image_ids):
            raise ValueError(f"image_index is {image_index}; the data set has {len(self.truth.image_ids)} images")
        if image_index in self._found:  # samplers pad the last batch with images that were there already
            return
        label = self._label_map(detections.names)[detections.labels.cpu().numpy()]
        kept = label >= 0
        corners = detections.boxes.detach().cpu().double().numpy()[kept]
        self._found[image_index] = Results(
            image=np.full(int(kept.sum()), image_index, dtype=np.int64),
            label=label[kept],
            xywh=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
            score=detections.scores.detach().cpu().double().numpy()[kept],
        )

    def __len__(self) -> int:
        return len(self._found)

    def state(self) -> dict[int, Results]:
        """What was collected, by image row: small and picklable, to be gathered from all ranks."""
        return dict(self._found)

    def merge(self, states: Sequence[Mapping[int, Results]]) -> DetectionEvaluator:
        """A new evaluator of this one and the states of other ranks; each image counts once, the first one seen."""
        merged = DetectionEvaluator(self.truth, drop_unknown=self.drop_unknown)
        for state in (self._found, *states):
            for image, found in state.items():
                merged._found.setdefault(image, found)
        return merged

    def results(self) -> Results:
        """All detections in the order of the data set's images, whatever order they came in."""
        return Results.join([self._found[row] for row in sorted(self._found)])

    def compute(self, *, only_seen: bool = False) -> DetectionScores:
        """Scores on all images of the truth; only_seen: on those added (a shortened validation).

        ValueError where images are missing without only_seen: a forgotten rank would look like a bad model.
        """
        missing = len(self.truth.image_ids) - len(self._found)
        if missing and not only_seen:
            raise ValueError(
                f"{missing} of {len(self.truth.image_ids)} images were never added; merge the other ranks, or say "
                "only_seen=True to evaluate a part"
            )
        return evaluate_detections(
            self.truth, self.results(), image_ids=self.truth.image_ids[sorted(self._found)].tolist()
        )

    def _label_map(self, names: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
        known = {name: label for label, name in enumerate(self.truth.names)}
        unknown = [name for name in names if name not in known]
        if unknown and not self.drop_unknown:
            raise ValueError(
                f"the model's classes {', '.join(unknown[:5])} are not in the data set, which has "
                f"{', '.join(self.truth.names[:10])}; drop_unknown=True leaves them out"
            )
        return np.array([known.get(name, -1) for name in names], dtype=np.int64)


def _image_rows(truth: GroundTruth, image_ids: Sequence[int] | None) -> list[int]:
    if image_ids is None:
        return list(range(len(truth.image_ids)))
    row_of = {int(one): row for row, one in enumerate(truth.image_ids)}
    unknown = [one for one in image_ids if one not in row_of]
    if unknown:
        raise ValueError(f"image_ids {unknown[:5]} are not in the data set")
    return sorted({row_of[one] for one in image_ids})


def _scores(run: COCOeval_faster, truth: GroundTruth, results: Results, rows: Sequence[int]) -> DetectionScores:
    run.summarize()
    evaluated = np.zeros(len(truth.image_ids), dtype=np.bool_)
    evaluated[list(rows)] = True
    here = evaluated[truth.image]
    objects = np.bincount(truth.label[here & ~truth.crowd], minlength=len(truth.names))
    found = np.bincount(results.label[evaluated[results.image]], minlength=len(truth.names))
    order = np.argsort(np.argsort(truth.category_ids))  # COCOeval sorts the category ids
    precision, recall = run.eval["precision"][..., 0, -1], run.eval["recall"][..., 0, -1]  # area all, 100 detections
    per_class = tuple(
        ClassScores(
            name=name,
            category_id=int(truth.category_ids[label]),
            AP=_mean(precision[:, :, order[label]]),
            AP50=_mean(precision[0, :, order[label]]),
            AP75=_mean(precision[5, :, order[label]]),
            AR100=_mean(recall[:, order[label]]),
            boxes=int(objects[label]),
            detections=int(found[label]),
        )
        for label, name in enumerate(truth.names)
    )
    twelve = {name: float(value) for name, value in zip(STATS, run.stats, strict=True)}
    return DetectionScores(
        per_class=per_class,
        images=len(rows),
        boxes=int(objects.sum()),
        crowds=int((here & truth.crowd).sum()),
        detections=int(found.sum()),
        **twelve,
    )


def _mean(values: np.ndarray[Any, Any]) -> float:
    there = values[values > ABSENT]
    return float(there.mean()) if there.size else ABSENT
