"""Ground truth of a data set in a few flat arrays: no Python object a box, so worker memory does not grow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from torso.data.objects import Objects

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class ImageRecord(NamedTuple):
    """One image: boxes float32 [n, 4] xyxy px, labels int64 [n], crowd, difficult [n] bool, area [n] px^2."""

    path: Path
    name: str
    image_id: int
    size_hw: tuple[int, int]
    boxes: npt.NDArray[np.float32]
    labels: Ints
    crowd: Bools
    difficult: Bools
    area: Floats

    @property
    def objects(self) -> Objects:
        """What a sample takes of them."""
        return Objects(self.boxes, self.labels, self.crowd)


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedText:
    """A list of byte strings in one buffer: a list of str would be copied page by page into every worker."""

    buffer: npt.NDArray[np.uint8]
    offsets: Ints

    @classmethod
    def of(cls, items: Sequence[bytes]) -> PackedText:
        """Pack items in order."""
        offsets = np.zeros(len(items) + 1, dtype=np.int64)
        np.cumsum([len(item) for item in items], out=offsets[1:])
        return cls(buffer=np.frombuffer(b"".join(items), dtype=np.uint8), offsets=offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.buffer[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def take(self, rows: Ints) -> PackedText:
        """The given rows, in the given order."""
        if not self.buffer.size:
            return PackedText(buffer=self.buffer, offsets=np.zeros(len(rows) + 1, dtype=np.int64))
        return PackedText.of([self[int(row)] for row in rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotations:
    """Images and boxes of one split.

    I images, n boxes, K classes. The boxes of image i are rows box_offsets[i]..box_offsets[i + 1].
    root: the folder that file names start from. names: I file names. image_ids [I], size_hw [I, 2] int64 px, (0, 0)
    where neither the annotation nor the file says it. boxes [n, 4] xyxy px (float64, so that what goes out to the
    evaluation is what came in), labels [n] 0..K-1, crowd and difficult [n], area [n] px^2 as annotated.
    segments: n polygons or RLEs as COCO JSON, empty where there is none.
    category_ids [K]: the data set's own number of each class.
    """

    root: Path
    source: str
    names: PackedText
    image_ids: Ints
    size_hw: Ints
    box_offsets: Ints
    boxes: Floats
    labels: Ints
    crowd: Bools
    difficult: Bools
    area: Floats
    segments: PackedText
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def image_of_box(self) -> Ints:
        """[n], the image row of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.box_offsets))

    def name(self, index: int) -> str:
        """File name of an image, relative to root."""
        return self.names[index].decode()

    def path(self, index: int) -> Path:
        """Where an image lies."""
        return self.root / self.name(index)

    def image(self, index: int) -> ImageRecord:
        """All that is known of one image (copies; the storage is never handed out to be changed)."""
        rows = slice(int(self.box_offsets[index]), int(self.box_offsets[index + 1]))
        name = self.name(index)
        return ImageRecord(
            path=self.root / name,
            name=name,
            image_id=int(self.image_ids[index]),
            size_hw=(int(self.size_hw[index, 0]), int(self.size_hw[index, 1])),
            boxes=self.boxes[rows].astype(np.float32),
            labels=self.labels[rows].copy(),
            crowd=self.crowd[rows].copy(),
            difficult=self.difficult[rows].copy(),
            area=self.area[rows].copy(),
        )

    def keep_boxes(self, keep: Bools) -> Annotations:
        """The same images with only the boxes where keep [n] is true."""
        counts = np.bincount(self.image_of_box[keep], minlength=len(self))
        rows = np.flatnonzero(keep)
        return replace(
            self,
            box_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            difficult=self.difficult[rows],
            area=self.area[rows],
            segments=self.segments.take(rows),
        )

    def keep_images(self, keep: Bools) -> Annotations:
        """Only the images where keep [I] is true, in the same order."""
        fewer = self.keep_boxes(keep[self.image_of_box])
        rows = np.flatnonzero(keep)
        counts = np.diff(fewer.box_offsets)[rows]
        return replace(
            fewer,
            names=self.names.take(rows),
            image_ids=self.image_ids[rows],
            size_hw=self.size_hw[rows],
            box_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        )

    def with_classes(self, class_names: Sequence[str]) -> Annotations:
        """The same boxes labelled by another class list; ValueError if a class with boxes is missing from it.

        Category ids stay this set's own; classes it does not have get the next free numbers.
        """
        wanted = {name: label for label, name in enumerate(class_names)}
        used = {self.class_names[label] for label in np.unique(self.labels)}
        unknown = sorted(used - wanted.keys())
        if unknown:
            raise ValueError(
                f"{self.source}: boxes of class {', '.join(map(repr, unknown))} came, only "
                f"{', '.join(map(repr, class_names))} were wanted: add the class to the other split or remove its boxes"
            )
        own = dict(zip(self.class_names, self.category_ids, strict=True))
        free = iter(range(max(self.category_ids, default=0) + 1, max(self.category_ids, default=0) + len(wanted) + 1))
        mapped = np.array([wanted.get(name, -1) for name in self.class_names], dtype=np.int64)
        return replace(
            self,
            labels=mapped[self.labels] if len(self.labels) else self.labels,
            class_names=tuple(class_names),
            category_ids=tuple(own[name] if name in own else next(free) for name in class_names),
        )

    def to_coco(self) -> dict[str, Any]:
        """A COCO dictionary with the data set's own image and category ids (for the evaluation).

        Annotations are numbered from 1: COCO's protocol takes a match with number 0 for no match, and sets that were
        merged by hand repeat numbers.
        """
        images = [
            {"id": int(i), "file_name": self.name(row), "height": int(h), "width": int(w)}
            for row, (i, (h, w)) in enumerate(zip(self.image_ids, self.size_hw, strict=True))
        ]
        pairs = zip(self.class_names, self.category_ids, strict=True)
        return {
            "images": images,
            "annotations": self._coco_boxes(),
            "categories": [{"id": number, "name": name} for name, number in pairs],
        }

    def _coco_boxes(self) -> list[dict[str, Any]]:
        # Whole columns become lists at once: one numpy scalar a value would be ten times as slow.
        corner, sides = self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]
        columns = {
            "id": range(1, len(self.boxes) + 1),
            "image_id": self.image_ids[self.image_of_box].tolist(),
            "category_id": np.array(self.category_ids, dtype=np.int64)[self.labels].tolist(),
            "bbox": np.concatenate([corner, sides], axis=1).tolist(),
            "area": self.area.tolist(),
            "iscrowd": self.crowd.astype(np.int64).tolist(),
        }
        entries = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        for row in np.flatnonzero(self.difficult):
            entries[row]["difficult"] = 1
        for row in np.flatnonzero(np.diff(self.segments.offsets)):
            entries[row]["segmentation"] = json.loads(self.segments[int(row)])
        return entries


class Box(NamedTuple):
    """One box on its way into the flat storage; only readers make them."""

    xyxy: tuple[float, float, float, float]
    label: int
    crowd: bool = False
    difficult: bool = False
    area: float | None = None
    segment: bytes = b""


class ImageBoxes(NamedTuple):
    """One image on its way into the flat storage."""

    name: str
    image_id: int
    size_hw: tuple[int, int]
    boxes: list[Box]


def pack(root: Path, source: str, images: Sequence[ImageBoxes], classes: Mapping[str, int]) -> Annotations:
    """Flat storage of what a reader found; classes maps each name to the data set's own id, in label order.

    An area that is not given is width x height.
    """
    boxes = [box for image in images for box in image.boxes]
    xyxy = np.array([box.xyxy for box in boxes], dtype=np.float64).reshape(-1, 4)
    sides = xyxy[:, 2:] - xyxy[:, :2]
    given = [np.nan if box.area is None else box.area for box in boxes]
    area = np.array(given, dtype=np.float64)
    return Annotations(
        root=root,
        source=source,
        names=PackedText.of([image.name.encode() for image in images]),
        image_ids=np.array([image.image_id for image in images], dtype=np.int64),
        size_hw=np.array([image.size_hw for image in images], dtype=np.int64).reshape(-1, 2),
        box_offsets=np.cumsum([0, *(len(image.boxes) for image in images)], dtype=np.int64),
        boxes=xyxy,
        labels=np.array([box.label for box in boxes], dtype=np.int64),
        crowd=np.array([box.crowd for box in boxes], dtype=np.bool_),
        difficult=np.array([box.difficult for box in boxes], dtype=np.bool_),
        area=np.where(np.isnan(area), sides[:, 0] * sides[:, 1], area),
        segments=PackedText.of([box.segment for box in boxes]),
        class_names=tuple(classes),
        category_ids=tuple(classes.values()),
    )
