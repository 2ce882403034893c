"""Detection: images with boxes in COCO, VOC or YOLO form, evaluated by COCO's average precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL.Image import Image
from torch.utils.data import DataLoader

from torso.anchors.coverage import prior_note
from torso.data.annotations import Annotations
from torso.data.collate import Batch
from torso.data.doctor import examine
from torso.data.loader import train_loader
from torso.data.sampler import EpochSampler
from torso.data.splits import Data, Splits, as_objects, choose_splits, open_split, splits_of
from torso.data.targets import Targets
from torso.data.to_input import ToInput
from torso.data.windows import make_dataset, window_counts
from torso.engine.task import EvalSettings, Evaluation, Feed, Inspection, Report, RunPage, Task
from torso.evaluation.proposals import ProposalScores, evaluate_proposals
from torso.evaluation.run import Settings, collect
from torso.evaluation.voc import VocScores, evaluate_voc
from torso.inference.detections import Detections
from torso.inference.predictor import Predictor
from torso.inference.runtime import Precision
from torso.models.detector import Detector
from torso.parts import Part, produced
from torso.summary import Summary, summarise
from torso.training.criteria._base import Criterion
from torso.training.recipes.recipe import Recipe
from torso.types import Images

_BLANK_ROWS = 32  # of targets, the fewest that collate makes


class DetectionTask(Task):
    """A model is a Detector, data are Annotations, the headline is COCO's AP.

    A head of objects only (RPN) learns and is evaluated on one class, "object", whatever the classes of the data are.
    """

    name: ClassVar[str] = "detection"
    headline: ClassVar[str] = "AP"

    def open(self, data: Data, recipe: Part[Recipe], *, holdout: float, limit: int | None) -> Splits:
        head = produced(recipe.get("model").get("head"))
        return choose_splits(data, holdout=holdout, limit=limit, objects_only=head.objects_only)  # type: ignore[attr-defined]

    def inspect(self, folder: Path | str, recipe: Part[Recipe], *, holdout: float) -> Inspection:
        report = examine(folder, holdout=holdout)
        # the report has said the notes; another reading of the folder would look at every image again
        splits = splits_of(report, holdout=holdout)._replace(notes=()) if report.may_train else None
        return Inspection(report.lines(), splits)

    def class_names(self, train: Annotations) -> tuple[str, ...]:
        return train.class_names

    def category_ids(self, train: Annotations) -> tuple[int, ...]:
        return train.category_ids

    def counts(self, train: Annotations) -> dict[str, int]:
        return {"images": len(train), "boxes": len(train.boxes)}

    def describe(self, train: Annotations, rows: Sequence[int]) -> list[str]:
        return [train.name(row) for row in rows]

    def samples(self, train: Annotations, model: Detector) -> int:
        return sum(window_counts(train, model.input))

    def loader(self, train: Annotations, model: Detector, sampler: EpochSampler, feed: Feed) -> DataLoader[list[Batch]]:
        transforms = [p.build() for p in feed.recipe.augment]
        last = ToInput(model.input, model.multiple, few=feed.fixed_shapes)
        dataset = make_dataset(
            train, [*transforms, last], model.input, seed=feed.recipe.seed, unmixed_from=feed.unmixed_from
        )
        return train_loader(dataset, sampler, workers=feed.workers, divisor=model.multiple)

    def blank(self, model: Detector) -> tuple[Images, Targets]:
        """Two images of two of the model's multiples, and at least a cell of its coarsest map, which SSD's
        convolutions need; without a box.
        """
        _, specs = model.specs[-1]
        coarsest: int = max(max(s.stride_yx) for s in specs)
        side = max(2 * model.multiple, -(-coarsest // model.multiple) * model.multiple)
        device = model.device
        images = Images(
            torch.zeros(2, 3, side, side, dtype=torch.uint8, device=device),
            torch.full((2, 2), float(side), device=device),
            torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 2, device=device),
        )
        none = torch.zeros(2, _BLANK_ROWS, dtype=torch.bool, device=device)
        return images, Targets(torch.zeros(2, _BLANK_ROWS, 4, device=device), none.long(), none, none)

    def notes(self, model: Detector, criterion: Criterion, train: Annotations) -> list[str]:
        note = prior_note(model, criterion, train)
        return [] if note is None else [note]

    def evaluate(self, model: Detector, val: Annotations, settings: EvalSettings) -> Evaluation:
        found = collect(model, val, _settings(settings))
        return Evaluation(found.compute(), lambda: found.results().to_coco(found.truth))

    def evaluate_folder(
        self,
        model: Detector,
        folder: str,
        split: str,
        *,
        holdout: float,
        settings: EvalSettings,
        options: Mapping[str, Any],
    ) -> Report:
        """COCO's twelve numbers and AP of each class; of proposals the recall too. options: voc, drop_unknown."""
        self.refuse({name: value for name, value in options.items() if name not in ("voc", "drop_unknown")})
        truth, notes = open_split(folder, split, holdout)
        proposer = model.head.objects_only
        truth = as_objects(truth) if proposer else truth
        found = collect(model, truth, _settings(settings, drop_unknown=bool(options.get("drop_unknown"))))
        scores, results = found.compute(), found.results()
        voc = _voc(truth, results) if options.get("voc") else {}
        recall = evaluate_proposals(truth, results) if proposer else None
        record = {"notes": notes, **scores.to_dict()}
        if voc:
            record["voc"] = {name: _finite(one.to_dict()) for name, one in voc.items()}
        if recall is not None:
            record["proposals"] = _recall_record(recall)
        lines = [str(scores), *_voc_lines(voc), *_recall_lines(recall)]
        return Report(notes, lines, record)

    def predict(
        self, model: Detector, images: Iterable[Image], *, score_threshold: float, batch_size: int, precision: Precision
    ) -> Iterator[Detections]:
        predictor = Predictor(model, score_threshold=score_threshold, batch_size=batch_size, precision=precision)
        return predictor.stream(images)

    def rows(self, found: Detections, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        return found.to_coco(image_id, category_ids)

    def draw(self, found: Detections, image: Image) -> Image:
        return found.plot(image)

    def summarise(self, model: Part[Detector], size_hw: tuple[int, int] | None) -> Summary:
        return summarise(model, size_hw)

    def page(self, val: Annotations | None, predictions: Any | None, folder: Path) -> RunPage:
        from torso.report.detection import detection_page

        return RunPage(*detection_page(folder, truth=val, results=predictions))


def _settings(settings: EvalSettings, *, drop_unknown: bool = False) -> Settings:
    return Settings(**vars(settings), drop_unknown=drop_unknown)


def _voc(truth: Annotations, results: Any) -> dict[str, VocScores]:
    return {
        "2010 (area)": evaluate_voc(truth, results),
        "2007 (11 points)": evaluate_voc(truth, results, eleven_points=True),
    }


def _voc_lines(voc: Mapping[str, VocScores]) -> list[str]:
    classes = {
        name: "  ".join(f"{c.name} {100 * c.AP:.1f}" for c in one.per_class if c.objects) for name, one in voc.items()
    }
    return [f"VOC {name} mAP50 {100 * one.mAP:.1f}  {classes[name]}" for name, one in voc.items()]


def _finite(value: Any) -> Any:
    """None for NaN, which JSON does not have: a class without objects."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _recall_lines(recall: ProposalScores | None) -> list[str]:
    if recall is None:
        return []
    return ["proposals  " + "  ".join(f"AR@{k} {100 * v:.1f}" for k, v in recall.average_recall.items())]


def _recall_record(recall: ProposalScores) -> dict[str, Any]:
    at = {f"{iou:g}@{k}": value for (iou, k), value in recall.recall.items()}
    return {"average_recall": dict(recall.average_recall), "recall": at}
