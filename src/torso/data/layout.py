"""Which data set is in a folder: COCO, Pascal VOC or YOLO, found by looking; and its splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from torso.bounds import Share
from torso.data.annotations import Annotations, Bools
from torso.data.coco import CocoSplit, find_coco, read_coco
from torso.data.voc import find_voc, read_voc
from torso.data.yolo import find_yolo, read_yolo
from torso.plain_values import checked

_WANTED = (
    "COCO (annotations/instances_train.json or train.json, with images/), Pascal VOC (Annotations/*.xml, JPEGImages/) "
    "or YOLO (data.yaml, images/, labels/)"
)


class Layout(NamedTuple):
    """What a folder holds: kind coco, voc or yolo, and a reader for each split (none if it is not of this kind)."""

    kind: str
    root: Path
    readers: Mapping[str, Callable[[], Annotations]]


def find_layout(root: Path | str, *, segments: bool = False) -> Layout:
    """The data set in a folder; ValueError says what was looked for. segments: keep polygons and RLEs when reading.

    A lone part without a name that means a split (all.json, trainval.txt) counts as train.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; a data set was wanted there, {_WANTED}: check the path")
    found = (
        find() for find in (partial(_coco, folder, segments), partial(_voc, folder), partial(_yolo, folder, segments))
    )
    layout = next((layout for layout in found if layout.readers), None)
    if layout is None:
        raise ValueError(f"{folder}: no data set was found; wanted is {_WANTED}: check the folder")
    if "train" not in layout.readers and len(layout.readers) == 1 and not layout.readers.keys() & {"val", "test"}:
        return layout._replace(readers={"train": next(iter(layout.readers.values()))})
    return layout


def splits(root: Path | str) -> tuple[str, ...]:
    """Names of the splits in a folder: train, val, test first, others after them."""
    usual = ("train", "val", "test")
    readers = find_layout(root).readers
    return (*(name for name in usual if name in readers), *sorted(readers.keys() - set(usual)))


def open_dataset(
    root: Path | str, split: str | None = None, *, holdout: float = 0.0, segments: bool = False
) -> Annotations:
    """The ground truth of one split as it stands in the files (see clean for what may be learned from).

    split: None takes train, or the only split there is. holdout: where no val split exists, this fraction of train
    becomes val, chosen by a hash of each file name: the same images on every machine, and adding images moves none
    of the others. segments: keep polygons and RLEs. ValueError names the file, what came and what to do.
    """
    layout = find_layout(root, segments=segments)
    names = splits(root)
    wanted = split or ("train" if "train" in names else names[0])
    if holdout and "val" not in names and wanted in ("train", "val") and "train" in names:
        whole = layout.readers["train"]()
        held = held_out(whole, holdout)
        return whole.keep_images(held if wanted == "val" else ~held)
    if wanted not in layout.readers:
        hint = "; holdout=0.2 makes one of train" if wanted == "val" else ""
        raise ValueError(f"{root}: split {wanted!r} was wanted, there is {', '.join(names)}: name one of these{hint}")
    return layout.readers[wanted]()


@checked
def held_out(annotations: Annotations, fraction: Share) -> Bools:
    """[I], which images a hold-out takes; at least one, and never all, of two or more."""
    leaves = [annotations.name(row).rpartition("/")[2] for row in range(len(annotations))]
    digests = [hashlib.sha256(leaf.encode()).digest()[:8] for leaf in leaves]
    places = np.array([int.from_bytes(digest, "big") for digest in digests], dtype=np.float64) / 2.0**64
    held: Bools = places < fraction
    if len(held) > 1:
        held[places.argmin()] = True
        held[places.argmax()] = False
    return held


def _coco(root: Path, segments: bool) -> Layout:
    found = find_coco(root)
    return Layout("coco", root, {name: partial(_read_coco, files, segments) for name, files in found.items()})


def _read_coco(files: CocoSplit, segments: bool) -> Annotations:
    json_file, folders = files.only()
    return read_coco(json_file, folders, segments=segments)


def _voc(root: Path) -> Layout:
    folders = find_voc(root)
    names = dict.fromkeys(name for folder in folders for name in folder.splits)
    return Layout("voc", root, {name: partial(read_voc, folders, name, root) for name in names})


def _yolo(root: Path, segments: bool) -> Layout:
    folder = find_yolo(root)
    if folder is None:
        return Layout("yolo", root, {})
    readers = {name: partial(read_yolo, folder, name, root, segments=segments) for name in folder.splits}
    return Layout("yolo", root, readers)
