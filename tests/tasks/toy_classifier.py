"""A second task in one file: images in a folder a class, a model of three layers, cross-entropy, top-1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.distributed as dist
from PIL import ImageDraw
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from torso.data.loader import window_loader
from torso.data.sampler import EpochSampler
from torso.engine.task import EvalSettings, Evaluation, Feed, Report, RunPage, Task
from torso.images import image_to_tensor, read_image, resize_image, stack_images
from torso.inference.predictor import evaluating
from torso.inputs._base import Input
from torso.inputs.fixed import Fixed
from torso.models._base import Model
from torso.parts import Part, part
from torso.report import page
from torso.training.criteria._base import Criterion, Terms, TermSum
from torso.training.recipes.recipe import Recipe
from torso.types import Images


class Logits(NamedTuple):
    """logits: [B, K]."""

    logits: Tensor


class Classifier(Model):
    """Two convolutions, dropout, a linear layer."""

    task: ClassVar[str] = "tasks.toy_classifier:ClassificationTask"
    multiple = 4

    def __init__(
        self,
        *,
        num_classes: int = 2,
        channels: int = 8,
        dropout: float = 0.0,
        input: Part[Input] = part(Fixed, size_hw=(16, 24)),
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU()
        )
        self.drop, self.out = nn.Dropout(dropout), nn.Linear(channels, num_classes)
        self.num_classes, self.input = num_classes, input.build()
        self.names = tuple(map(str, range(num_classes)))

    def forward(self, images: Images) -> Logits:
        pixels = images.pixels.to(self.out.weight.dtype) / 128 - 1
        return Logits(self.out(self.drop(self.body(pixels).mean((2, 3)))))


class CrossEntropy(Criterion):
    """The mean over the effective batch."""

    def forward(self, model: Classifier, images: Images, targets: Tensor) -> Terms:
        total = cross_entropy(model(images).logits.float(), targets, reduction="sum")
        return {"cls": TermSum(total, self.counts(model, images, targets, ())["cls"])}

    @property
    def counts_need_predictions(self) -> bool:
        return False

    def counts(self, model: Any, images: Images, targets: Tensor, sizes_hw: Sequence[Any]) -> dict[str, Tensor]:
        return {"cls": torch.tensor(float(len(targets)), device=targets.device)}


@dataclass(frozen=True)
class Files:
    """A split: paths and labels."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)


class Splits(NamedTuple):
    train: Files
    val: Files | None
    origin: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


class ClassBatch(NamedTuple):
    images: Images
    targets: Tensor
    index: Tensor


@dataclass(frozen=True)
class TopOne:
    top1: float
    images: int

    @property
    def numbers(self) -> dict[str, float]:
        return {"top1": self.top1}

    def brief(self) -> str:
        return f"top-1 {100 * self.top1:.1f}"

    def to_dict(self) -> dict[str, Any]:
        return {"top1": self.top1, "images": self.images}


class ClassDataset(Dataset[Any]):
    """(epoch, row) -> (pixels, label, row)."""

    def __init__(self, files: Files, size_hw: tuple[int, int]) -> None:
        self.files, self.size_hw = files, size_hw

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int, int]:
        row = key[1]
        return shown(self.files.paths[row], self.size_hw), self.files.labels[row], row


class ClassificationTask(Task):
    name: ClassVar[str] = "classification"
    headline: ClassVar[str] = "top1"

    def open(self, data: Any, recipe: Part[Recipe], *, holdout: float, limit: int | None) -> Splits:
        if isinstance(data, Splits):
            return data._replace(train=first(data.train, limit), val=data.val and first(data.val, limit))
        root = Path(data).resolve()
        names = tuple(sorted(p.name for p in (root / "train").iterdir()))
        train, val = (first(listed(root / split, names), limit) for split in ("train", "val"))
        if not len(train):
            raise ValueError(f"{root}: no image to learn from")
        return Splits(train, val, {"folder": str(root), "holdout": holdout, "limit": limit})

    def class_names(self, train: Files) -> tuple[str, ...]:
        return train.names

    def describe(self, train: Files, rows: Sequence[int]) -> list[str]:
        return [train.paths[row].name for row in rows]

    def loader(self, train: Files, model: Classifier, sampler: EpochSampler, feed: Feed) -> DataLoader[Any]:
        size_hw = model.input.resized((1, 1))
        return window_loader(
            ClassDataset(train, size_hw), sampler, partial(collate, canvas_hw=size_hw), workers=feed.workers
        )

    def blank(self, model: Classifier) -> tuple[Images, Tensor]:
        size_hw = model.input.resized((1, 1))
        return collate([(torch.zeros(3, *size_hw, dtype=torch.uint8), 0, 0)], size_hw)[:2]

    def evaluate(self, model: Classifier, val: Files, settings: EvalSettings) -> Evaluation:
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        rows = range(rank, len(val), world)
        parts: list[Any] = [None] * world
        own = {row: int(p.argmax()) for row, p in zip(rows, self._probabilities(model, val, rows), strict=True)}
        parts[rank] = own
        if world > 1:
            dist.all_gather_object(parts, own)
        found = {row: label for one in parts for row, label in one.items()}
        right = sum(found[row] == label for row, label in enumerate(val.labels))
        answers = [{"image_id": row, "class": model.names[found[row]]} for row in sorted(found)]
        return Evaluation(TopOne(right / len(val), len(val)), lambda: answers)

    def evaluate_folder(
        self,
        model: Classifier,
        folder: str,
        split: str,
        *,
        holdout: float,
        settings: EvalSettings,
        options: Mapping[str, Any],
    ) -> Report:
        self.refuse(options)
        scores = self.evaluate(model, listed(Path(folder) / split, model.names), settings).scores
        return Report([], [scores.brief()], scores.to_dict())

    def predict(self, model: Classifier, images: Iterable[Any], **settings: Any) -> Iterator[Any]:
        size_hw = model.input.resized((1, 1))
        for image in images:
            pixels = image_to_tensor(resize_image(image, size_hw))
            with torch.inference_mode(), evaluating(model):
                p = model(stack_images([pixels], size_hw, [(1, 1, 0, 0)])).logits.softmax(-1)[0]
            yield model.names[int(p.argmax())], float(p.max()), int(p.argmax())

    def rows(self, found: Any, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        return [{"image_id": image_id, "category_id": category_ids[found[2]], "score": found[1]}]

    def draw(self, found: Any, image: Any) -> Any:
        drawn = image.copy()
        ImageDraw.Draw(drawn).text((1, 1), found[0])
        return drawn

    def page(self, val: Files | None, predictions: Any | None, folder: Path) -> RunPage:
        rows = [[one["class"], str(one["image_id"])] for one in predictions or ()]
        return RunPage(
            [("images evaluated", str(len(rows)))], [("answers", "Answers", page.table(["class"], rows))], []
        )

    def _probabilities(self, model: Classifier, val: Files, rows: Iterable[int]) -> Iterator[Tensor]:
        size_hw = model.input.resized((1, 1))
        for row in rows:
            pixels = stack_images([shown(val.paths[row], size_hw)], size_hw, [(1, 1, 0, 0)])
            with torch.inference_mode(), evaluating(model):
                yield model(pixels).logits[0]


def listed(folder: Path, names: tuple[str, ...]) -> Files:
    pairs = [(path, label) for label, name in enumerate(names) for path in sorted((folder / name).glob("*.png"))]
    return Files(tuple(p for p, _ in pairs), tuple(label for _, label in pairs), names)


def first(files: Files, limit: int | None) -> Files:
    return replace(files, paths=files.paths[:limit], labels=files.labels[:limit])


def shown(path: Path, size_hw: tuple[int, int]) -> Tensor:
    return image_to_tensor(resize_image(read_image(path), size_hw))


def collate(items: Sequence[tuple[Tensor, int, int]], canvas_hw: tuple[int, int]) -> ClassBatch:
    pixels, labels, rows = zip(*items, strict=True)
    images = stack_images(pixels, canvas_hw, [(1, 1, 0, 0)] * len(items))
    return ClassBatch(images, torch.tensor(labels), torch.tensor(rows))
