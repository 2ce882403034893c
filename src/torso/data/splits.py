"""What a run learns from and is evaluated on: a folder that passed the doctor's checks, or annotations handed in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from torso.data.annotations import Annotations
from torso.data.clean import clean
from torso.data.doctor import examine
from torso.data.doctor_report import Report
from torso.data.layout import open_dataset


class Splits(NamedTuple):
    """origin: the arguments that give the same splits again, None where annotations were handed in; notes: what was
    left out, in a sentence each.
    """

    train: Annotations
    val: Annotations | None
    origin: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


Data = Path | str | Splits | tuple[Annotations, Annotations | None]


def choose_splits(data: Data, *, holdout: float, limit: int | None, objects_only: bool) -> Splits:
    """Train and val of one class list; limit: the first so many images of each; objects_only: see as_objects.

    ValueError where there is nothing to learn from.
    """
    splits = Splits(*data) if isinstance(data, tuple) else open_splits(data, holdout=holdout)
    origin = splits.origin and {**splits.origin, "limit": limit}
    train, val = splits.train, splits.val
    if not len(train.boxes):
        raise ValueError(f"{train.source}: no box is left to learn from; at least one was wanted: check it with doctor")
    if val is not None and val.class_names != train.class_names:
        val = val.with_classes(train.class_names)
    if limit is not None:
        train, val = _first(train, limit), val and _first(val, limit)
    if objects_only:
        train, val = as_objects(train), val and as_objects(val)
    return splits._replace(origin=origin, train=train, val=val if val is not None and len(val) else None)


def open_splits(data: Path | str, *, holdout: float = 0.2) -> Splits:
    """The cleaned train and val of a folder; val comes out of train where the folder has none.

    ValueError, naming the first reason, where the doctor says that training may not start.
    """
    return splits_of(examine(data, holdout=holdout), holdout=holdout)


def splits_of(report: Report, *, holdout: float) -> Splits:
    """The same from a report that is there already; holdout: as it was examined with."""
    data = report.root
    if not report.may_train:
        more = f" (and {len(report.errors) - 1} more: see torso doctor {data})" if len(report.errors) > 1 else ""
        raise ValueError(report.errors[0] + more)
    if "train" not in report.splits:
        raise ValueError(f"{data}: no train split; there is {', '.join(report.splits)}: name one of the files train")
    notes = []
    for name, split in report.splits.items():
        images, boxes = split.count("dropped", of_images=True), split.count("dropped", of_images=False)
        if images or boxes:
            notes.append(f"{name}: {images} images and {boxes} boxes dropped (torso doctor {data} says which)")
    val = report.splits["val"].annotations if "val" in report.splits else None
    origin = {"folder": str(data.resolve()), "holdout": holdout, "limit": None}
    return Splits(report.splits["train"].annotations, val, origin, tuple(notes))


def open_split(data: str, split: str, holdout: float) -> tuple[Annotations, list[str]]:
    """What of a split can be evaluated on, and a line on what was left out. ValueError where nothing is."""
    kept, findings = clean(open_dataset(data, split, holdout=holdout))
    refused = [f.text for f in findings if f.action == "refused"]
    if refused:
        raise ValueError(refused[0])
    dropped = sum(f.action == "dropped" for f in findings)
    return kept, [f"{dropped} images or boxes dropped (torso doctor {data} says which)"] if dropped else []


def as_objects(annotations: Annotations) -> Annotations:
    """The same boxes, all of one class "object": what a proposer learns and is evaluated on."""
    return replace(annotations, labels=np.zeros_like(annotations.labels), class_names=("object",), category_ids=(1,))


def _first(annotations: Annotations, count: int) -> Annotations:
    return annotations.keep_images(np.arange(len(annotations)) < count)
