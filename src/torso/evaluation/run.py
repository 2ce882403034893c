"""Runs a detector over a data set and evaluates what it finds; on one rank or on many, each a share of the images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from torso.data.annotations import Annotations
from torso.data.collate import Batch
from torso.data.dataset import DetectionDataset
from torso.data.loader import eval_loader
from torso.data.to_input import ToInput
from torso.evaluation.detection import DetectionEvaluator, DetectionScores
from torso.evaluation.views import detect_views
from torso.inference.detections import Detections
from torso.inference.runtime import Precision, Runtime
from torso.inputs.pyramid import Pyramid
from torso.inputs.tiles import Tiles
from torso.models.detector import Detector
from torso.types import Candidates, Images

Tick = Callable[[int, int], None]
"""Told (batches done, batches in all) after each batch."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a detector is run over a split.

    batch_size: images at once on this rank. workers: processes that read them. device: None is the model's own.
    precision: "auto" is bf16 on CUDA. drop_unknown: leave out classes that the data set lacks.
    """

    batch_size: int = 8
    workers: int = 0
    device: torch.device | str | None = None
    precision: Precision = "auto"
    drop_unknown: bool = False
    tick: Tick | None = None


def evaluate(model: Detector, annotations: Annotations, settings: Settings = Settings()) -> DetectionScores:
    """COCO scores of the model on a split; on several ranks every rank gets the scores of all images.

    The model is left as it is: a copy runs. ValueError where the classes do not fit.
    """
    return collect(model, annotations, settings).compute()


def collect(model: Detector, annotations: Annotations, settings: Settings = Settings()) -> DetectionEvaluator:
    """What the model finds on every image, of all ranks, ready for compute() and results()."""
    rank, world = _ranks()
    if isinstance(model.input, Tiles | Pyramid):
        return _merged(_collect_views(model, annotations, settings, range(rank, len(annotations), world)), world)
    device = settings.device
    runtime = Runtime(model if device is None else copy.deepcopy(model).to(device), precision=settings.precision)
    transform = ToInput(model.input, model.multiple)
    dataset = DetectionDataset(annotations, [transform])
    loader = eval_loader(
        dataset, settings.batch_size, workers=settings.workers, rank=rank, world=world, divisor=model.multiple
    )
    evaluator = DetectionEvaluator(annotations, drop_unknown=settings.drop_unknown)
    for done, (batch, found) in enumerate(_detected(runtime, loader), start=1):
        for row, index in enumerate(batch.index.tolist()):
            evaluator.add(index, to_detections(found, batch.images, row, annotations, index, model.names))
        if settings.tick is not None:
            settings.tick(done, len(loader))
    return _merged(evaluator, world)


def _collect_views(model: Detector, annotations: Annotations, settings: Settings, indices: range) -> DetectionEvaluator:
    evaluator = DetectionEvaluator(annotations, drop_unknown=settings.drop_unknown)
    found = detect_views(
        model,
        annotations,
        indices,
        batch_size=settings.batch_size,
        workers=settings.workers,
        device=settings.device,
        precision=settings.precision,
        tick=settings.tick,
    )
    for index, detections in found:
        evaluator.add(index, detections)
    return evaluator


def to_detections(
    found: Candidates, images: Images, row: int, annotations: Annotations, index: int, names: tuple[str, ...]
) -> Detections:
    """One image's candidates (on the CPU) as detections in original pixels, cut at its border."""
    kept = found.scores[row] > 0
    height, width = (int(side) for side in annotations.size_hw[index])
    scale, offset = images.to_original[row, :2], images.to_original[row, 2:]
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    boxes = found.boxes[row][kept].float() * scale.repeat(2) + offset.repeat(2)
    return Detections(
        boxes=torch.minimum(boxes.clamp(min=0), limit),
        scores=found.scores[row][kept].float(),
        labels=found.labels[row][kept],
        names=names,
        image_size_hw=(height, width),
        path=annotations.path(index),
    )


def _detected(runtime: Runtime, loader: DataLoader[Batch]) -> Iterator[tuple[Batch, Candidates]]:
    for batch in loader:
        yield batch, runtime(batch.images).on_cpu()


def _ranks() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _merged(evaluator: DetectionEvaluator, world: int) -> DetectionEvaluator:
    if world == 1:
        return evaluator
    states: list[object] = [None] * world
    dist.all_gather_object(states, evaluator.state())
    return evaluator.merge(states)  # type: ignore[arg-type]
