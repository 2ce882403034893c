"""What a training loop of one's own takes from torso: data as training sees them, batches of them, and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from torso.data.annotations import Annotations
from torso.data.clean import clean
from torso.data.collate import Batch
from torso.data.layout import open_dataset as read_dataset
from torso.data.loader import train_loader
from torso.data.sample import Transform
from torso.data.sampler import EpochSampler
from torso.data.to_input import ToInput
from torso.data.windows import make_dataset
from torso.errors import expect
from torso.evaluation.detection import DetectionScores
from torso.evaluation.run import Settings
from torso.evaluation.run import evaluate as run_evaluation
from torso.inference.runtime import Precision
from torso.models.detector import Detector
from torso.parts import Part

T = TypeVar("T", bound=tuple[Any, ...])


class Opened(NamedTuple):
    """A split of a data set: annotations that may be learned from, and a sentence for each thing that was changed."""

    annotations: Annotations
    notes: tuple[str, ...]


def open_dataset(folder: Path | str, split: str = "train", *, holdout: float = 0.2) -> Opened:
    """What `torso train` would take of a folder in COCO, Pascal VOC or YOLO form, cleaned alike.

    Args:
        split: "train", "val", "test" or another name that the folder has.
        holdout: share of train that is val where the folder has no val; it is left out of train then.

    Notes name what was dropped or clipped. ValueError where nothing can be learned from it.
    """
    expect("folder", folder, (str, Path), "the path of a data set's folder")
    expect("split", split, str, "the name of a split, such as 'train'")
    expect("holdout", holdout, (int, float), "a share between 0 and 1")
    kept, findings = clean(read_dataset(folder, split, holdout=holdout))
    refused = next((f.text for f in findings if f.action == "refused"), None)
    if refused is not None:
        raise ValueError(refused)
    return Opened(kept, tuple(f.text for f in findings if f.action != "kept"))


def batches(
    annotations: Annotations | Opened,
    model: Detector,
    *,
    epoch: int = 0,
    batch_size: int = 8,
    augment: Sequence[Part[Transform]] = (),
    seed: int = 0,
    shuffle: bool = True,
    workers: int = 0,
) -> Iterator[Batch]:
    """One pass over the data as the model wants to see them: `batch.images` and `batch.targets`, on its device.

    Args:
        augment: transforms of each image before it is resized, such as recipe.get("augment").
        epoch, seed: all chance is a function of these two, whatever `workers` is: give each pass its own epoch.
        batch_size: the last batch is filled up from the beginning of the pass. workers: processes that read images.
    """
    truth = annotations_of(annotations, "annotations")
    expect("model", model, Detector, "a Detector, as torso.create gives it")
    last = ToInput(model.input, model.multiple)
    dataset = make_dataset(truth, [*(part.build() for part in augment), last], model.input, seed=seed)
    sampler = EpochSampler(size=len(dataset), batch_size=batch_size, seed=seed, shuffle=shuffle)
    sampler.set_epoch(epoch)
    for window in train_loader(dataset, sampler, workers=workers, divisor=model.multiple):
        for batch in window:
            yield batch._replace(
                images=_on(batch.images, model.mean.device), targets=_on(batch.targets, model.mean.device)
            )


def evaluate(
    model: Detector,
    data: Path | str | Annotations | Opened,
    *,
    split: str = "val",
    holdout: float = 0.2,
    batch_size: int = 8,
    workers: int = 0,
    precision: Precision = "auto",
    drop_unknown: bool = False,
) -> DetectionScores:
    """COCO's twelve numbers and those of each class: `scores.AP`, `print(scores)`. The model is left as it is.

    Args:
        data: a folder, of which `split` is taken (holdout: as in open_dataset), or what open_dataset gave.
        workers: processes that read images. precision: "auto" is bf16 on CUDA and 32 elsewhere.
        drop_unknown: leave out classes of the model that the data do not have, in place of a ValueError.
    """
    expect("model", model, Detector, "a Detector, as torso.load gives it")
    opened = open_dataset(data, split, holdout=holdout) if isinstance(data, str | Path) else data
    settings = Settings(batch_size=batch_size, workers=workers, precision=precision, drop_unknown=drop_unknown)
    return run_evaluation(model, annotations_of(opened, "data"), settings)


def annotations_of(given: Annotations | Opened, argument: str) -> Annotations:
    """The annotations of what open_dataset gave, or themselves."""
    expect(argument, given, (Annotations, Opened), "what torso.open_dataset gives")
    return given.annotations if isinstance(given, Opened) else given


def _on(group: T, device: torch.device) -> T:
    return type(group)(*(value.to(device) if isinstance(value, Tensor) else value for value in group))
