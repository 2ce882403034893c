"""Ground truth as evaluation reads it: flat arrays, with the data set's own ids, areas and crowd flags.

The one place where the data set's category ids and torso's labels 0..K-1 meet (labels follow the order of categories).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torso.data.annotations import Annotations

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """I images, K classes, M objects. float64, as COCOeval computes.

    image_ids [I], file_names [I], category_ids [K], names [K]: as in the data set.
    image [M]: row of image_ids; label [M]: 0..K-1; xywh [M, 4]: original pixels; area [M]: the annotation's own (mask)
    area in px^2; crowd [M]: a region of many objects; difficult [M]: left out of VOC scores.
    """

    image_ids: Ints
    file_names: tuple[str, ...]
    category_ids: Ints
    names: tuple[str, ...]
    image: Ints
    label: Ints
    xywh: Floats
    area: Floats
    crowd: Bools
    difficult: Bools

    @classmethod
    def from_coco(cls, coco: Mapping[str, Any]) -> GroundTruth:
        """A COCO dict (images, annotations, categories); ValueError for what cannot be evaluated.

        An annotation without an area has that of its box.
        """
        missing = [key for key in ("images", "annotations", "categories") if key not in coco]
        if missing:
            raise ValueError(f"the COCO dict has no {', '.join(missing)}; it has {', '.join(coco)}")
        images, objects, categories = coco["images"], coco["annotations"], coco["categories"]
        image_row = _rows((one["id"] for one in images), "image")
        label_row = _rows((one["id"] for one in categories), "category")
        _check_known((one["image_id"] for one in objects), image_row, "annotation with image_id")
        _check_known((one["category_id"] for one in objects), label_row, "annotation with category_id")
        xywh, area = _boxes(objects)
        return cls(
            image_ids=np.array(list(image_row), dtype=np.int64),
            file_names=tuple(str(one.get("file_name", one["id"])) for one in images),
            category_ids=np.array(list(label_row), dtype=np.int64),
            names=tuple(str(one["name"]) for one in categories),
            image=np.array([image_row[one["image_id"]] for one in objects], dtype=np.int64),
            label=np.array([label_row[one["category_id"]] for one in objects], dtype=np.int64),
            xywh=xywh,
            area=area,
            crowd=np.array([bool(one.get("iscrowd", 0)) for one in objects], dtype=np.bool_),
            difficult=np.array([bool(one.get("difficult", 0)) for one in objects], dtype=np.bool_),
        )

    @classmethod
    def from_annotations(cls, found: Annotations) -> GroundTruth:
        """What a reader of torso.data found."""
        return cls(
            image_ids=found.image_ids,
            file_names=tuple(found.name(row) for row in range(len(found))),
            category_ids=np.array(found.category_ids, dtype=np.int64),
            names=found.class_names,
            image=found.image_of_box.astype(np.int64),
            label=found.labels,
            xywh=np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1),
            area=found.area,
            crowd=found.crowd,
            difficult=found.difficult,
        )

    @property
    def xyxy(self) -> Floats:
        """[M, 4] corners, original pixels."""
        return np.concatenate([self.xywh[:, :2], self.xywh[:, :2] + self.xywh[:, 2:]], axis=1)

    def only(self, images: Sequence[int]) -> GroundTruth:
        """The same images and classes, but the objects of these image rows alone."""
        kept = np.isin(self.image, np.asarray(images, dtype=np.int64))
        return GroundTruth(
            self.image_ids, self.file_names, self.category_ids, self.names, self.image[kept], self.label[kept],
            self.xywh[kept], self.area[kept], self.crowd[kept], self.difficult[kept],
        )  # fmt: skip


TruthLike = GroundTruth | Annotations | Mapping[str, Any]
"""What every evaluation takes as ground truth: a GroundTruth, a reader's Annotations or a COCO dict."""


def as_truth(truth: TruthLike) -> GroundTruth:
    """Any TruthLike as a GroundTruth."""
    if isinstance(truth, GroundTruth):
        return truth
    return GroundTruth.from_annotations(truth) if isinstance(truth, Annotations) else GroundTruth.from_coco(truth)


def _rows(ids: Iterable[int], kind: str) -> dict[int, int]:
    listed = list(ids)
    twice = [one for one, count in Counter(listed).items() if count > 1]
    if twice:
        raise ValueError(f"{kind} id {twice[0]} occurs {listed.count(twice[0])} times; ids must be unique")
    return {one: row for row, one in enumerate(listed)}


def _check_known(ids: Iterable[int], known: Mapping[int, int], what: str) -> None:
    unknown = sorted({one for one in ids if one not in known})
    if unknown:
        raise ValueError(f"{what} {unknown[0]} is not in the data set ({len(unknown)} such ids)")


def _boxes(objects: Sequence[Mapping[str, Any]]) -> tuple[Floats, Floats]:
    """xywh [M, 4] and area [M] of annotations; ValueError names the first that has a bad one."""
    found = _read_boxes(objects)
    if found is not None:
        return found
    bad = next(one for one in objects if _read_boxes([one]) is None)  # slow, and only on the way to an error
    key, wanted = "bbox", "four finite numbers [x, y, width, height], sides of 0 or more, were wanted, in pixels"
    if _read_boxes([{**bad, "area": 0.0}]) is not None:
        key, wanted = "area", "a finite area in px^2 of 0 or more was wanted"
    raise ValueError(
        f"annotation {bad.get('id')} of image {bad['image_id']} has the {key} {bad.get(key)!r}; {wanted}: correct or "
        "remove it"
    )


def _read_boxes(objects: Sequence[Mapping[str, Any]]) -> tuple[Floats, Floats] | None:
    """All at once; None where any of them is not as it should be."""
    try:
        xywh = np.array([one["bbox"] for one in objects], dtype=np.float64) if objects else np.zeros((0, 4))
        if xywh.shape != (len(objects), 4):
            return None
        sizes = (xywh[:, 2] * xywh[:, 3]).tolist()
        area = np.array([one.get("area", size) for one, size in zip(objects, sizes, strict=True)], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return None
    # a comparison with nan is false
    sound = area.ndim == 1 and np.isfinite(xywh).all() and (xywh[:, 2:] >= 0).all() and (area >= 0).all()
    return (xywh, area) if sound and np.isfinite(area).all() else None
