"""Detections: what was found in one image, in the pixels of the original file, best first.

The end of the way through: drawing, evaluation, export to COCO, supervision and torchvision start here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

    from torso.images import Source

_PER_OBJECT = ("boxes", "scores", "labels", "masks", "variance")


class Detection(NamedTuple):
    """One object: box [4] xyxy in original pixels, score 0..1, label 0..K-1 and its class name."""

    box: Tensor
    score: float
    label: int
    name: str


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """Objects of one image. A record: nothing here changes it, every method returns a new one.

    boxes: [n, 4] float32 xyxy, original pixels, x1 <= x2 and y1 <= y2;  scores: [n] float32 in 0..1, falling;
    labels: [n] int64, the rows of names;  names: the model's class names;  masks: [n, H, W] bool or None;
    variance: [n, 4] px^2 of each coordinate or None;  image_size_hw: (H, W) of the original;  path: its file.
    A ValueError says which of these does not hold.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    names: tuple[str, ...]
    masks: Tensor | None = None
    variance: Tensor | None = None
    image_size_hw: tuple[int, int] | None = None
    path: str | Path | None = None

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_values(self)

    @classmethod
    def empty(
        cls,
        names: tuple[str, ...],
        image_size_hw: tuple[int, int] | None = None,
        path: str | Path | None = None,
    ) -> Detections:
        """Nothing found, on the CPU."""
        none = torch.zeros(0)
        return cls(none.reshape(0, 4), none, none.long(), names, image_size_hw=image_size_hw, path=path)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, rows: int) -> Detection: ...
    @overload
    def __getitem__(self, rows: slice | Tensor | np.ndarray[Any, Any] | Sequence[int]) -> Detections: ...
    def __getitem__(self, rows: int | slice | Tensor | np.ndarray[Any, Any] | Sequence[int]) -> Detection | Detections:
        """One Detection for an int; Detections for a slice, a boolean mask [n] or rows in rising order."""
        if isinstance(rows, int):
            label = int(self.labels[rows])
            return Detection(self.boxes[rows], float(self.scores[rows]), label, self.names[label])
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows, device=self.boxes.device)
            if rows.numel() == 0 and rows.dtype != torch.bool:
                rows = rows.long()
        return self._map(lambda tensor: tensor[rows])

    def above(self, score: float) -> Detections:
        """Those with at least this score."""
        return self[self.scores >= score]

    def of_class(self, name: str) -> Detections:
        """Those of one class; ValueError where the model does not know it."""
        if name not in self.names:
            raise ValueError(f"no class {name!r}; this model knows {', '.join(self.names)}")
        return self[self.labels == self.names.index(name)]

    def to(self, device: torch.device | str) -> Detections:
        """The same on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies as arrays by field name; masks and variance only where they are present."""
        present = {name: getattr(self, name) for name in _PER_OBJECT}
        return {name: value.detach().cpu().numpy().copy() for name, value in present.items() if value is not None}

    def class_name(self, row: int) -> str:
        """Class name of the object in this row."""
        return self.names[int(self.labels[row])]

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """COCO result dicts, best first: bbox is [x, y, w, h], not rounded; segmentation is RLE where masks exist.

        category_ids: the data set's id of each label (K of them); without it the id is label + 1.
        """
        ids = category_ids if category_ids is not None else range(1, len(self.names) + 1)
        if len(ids) != len(self.names):
            raise ValueError(f"got {len(ids)} category_ids for {len(self.names)} classes; give one a class, in order")
        corners = self.boxes.detach().cpu().double()
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1).tolist()
        rows = zip(boxes, self.scores.tolist(), self.labels.tolist(), strict=True)
        results: list[dict[str, Any]] = [
            {"image_id": image_id, "category_id": int(ids[label]), "bbox": box, "score": score}
            for box, score, label in rows
        ]
        if self.masks is None:
            return results
        codes = _to_rle(self.masks)
        return [{**result, "segmentation": code} for result, code in zip(results, codes, strict=True)]

    @classmethod
    def from_coco(
        cls,
        results: Sequence[Mapping[str, Any]],
        names: tuple[str, ...],
        category_ids: Sequence[int] | None = None,
        image_size_hw: tuple[int, int] | None = None,
        path: str | Path | None = None,
    ) -> Detections:
        """The inverse of to_coco, for the results of one image; sorted by falling score, ties as they came."""
        ids = list(category_ids) if category_ids is not None else list(range(1, len(names) + 1))
        images = sorted({result["image_id"] for result in results})
        if len(images) > 1:
            raise ValueError(f"results of {len(images)} images came ({images[:3]}...); Detections hold one: group them")
        unknown = sorted({result["category_id"] for result in results} - set(ids))
        if unknown:
            raise ValueError(f"category ids {unknown} are not among category_ids {ids}")
        if not results:
            return cls.empty(names, image_size_hw, path)
        ordered = sorted(results, key=lambda result: -float(result["score"]))
        boxes = torch.tensor([result["bbox"] for result in ordered], dtype=torch.float64)
        return cls(
            boxes=torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1).float(),
            scores=torch.tensor([result["score"] for result in ordered], dtype=torch.float32),
            labels=torch.tensor([ids.index(result["category_id"]) for result in ordered]),
            names=names,
            masks=_from_rle([result["segmentation"] for result in ordered]) if "segmentation" in ordered[0] else None,
            image_size_hw=image_size_hw,
            path=path,
        )

    def to_supervision(self) -> Any:
        """supervision.Detections with class names in data["class_name"]; ImportError says how to get the package."""
        try:
            import supervision
        except ImportError as error:
            raise ImportError("to_supervision needs a package: pip install 'torso[supervision]'") from error
        arrays = self.numpy()
        return supervision.Detections(
            xyxy=arrays["boxes"],
            confidence=arrays["scores"],
            class_id=arrays["labels"],
            mask=arrays.get("masks"),
            data={"class_name": np.array([self.names[label] for label in arrays["labels"]], dtype=str)},
        )

    def to_torchvision(self) -> dict[str, Tensor]:
        """What a torchvision detector returns: boxes, scores, labels (0..K-1, no background), masks if present."""
        result = {"boxes": self.boxes, "scores": self.scores, "labels": self.labels}
        return result if self.masks is None else {**result, "masks": self.masks}

    def plot(self, image: Source | None = None) -> Image.Image:
        """The image with boxes, labels and scores on it; image defaults to the file these came from."""
        from torso.inference.draw import draw

        if image is None and self.path is None:
            raise ValueError("these detections do not know their file; give plot(image=...)")
        return draw(image if image is not None else str(self.path), self)

    def save(self, path: str | Path, image: Source | None = None) -> Path:
        """Writes plot(image) to path (the suffix picks the format) and returns the path."""
        target = Path(path)
        if self.path is not None and target.resolve() == Path(self.path).resolve():
            raise ValueError(f"{target} is the image these came from; drawing over it would destroy it: pick another")
        target.parent.mkdir(parents=True, exist_ok=True)
        self.plot(image).save(target)
        return target

    def __repr__(self) -> str:
        source = f" in {Path(self.path).name}" if self.path is not None else ""
        size = f" ({self.image_size_hw[1]}x{self.image_size_hw[0]} px)" if self.image_size_hw is not None else ""
        shown = [
            f"{name} {score:.2f} at [{', '.join(f'{value:.0f}' for value in box.tolist())}]"
            for box, score, _, name in self[:5]
        ]
        more = f", and {len(self) - 5} more" if len(self) > 5 else ""
        return f"Detections({len(self)}{source}{size}{': ' if shown else ''}{', '.join(shown)}{more})"

    def _map(self, change: Any) -> Detections:
        present = {name: getattr(self, name) for name in _PER_OBJECT}
        return replace(self, **{name: change(value) for name, value in present.items() if value is not None})


def _check_shapes(found: Detections) -> None:
    n = len(found.scores)
    wanted = {
        "boxes": ((n, 4), torch.float32),
        "scores": ((n,), torch.float32),
        "labels": ((n,), torch.int64),
        "variance": ((n, 4), torch.float32),
    }
    for name, (shape, dtype) in wanted.items():
        value = getattr(found, name)
        if value is None and name == "variance":
            continue
        if tuple(value.shape) != shape or value.dtype != dtype:
            raise ValueError(f"{name} is {value.dtype} {list(value.shape)}; wanted {dtype} {list(shape)}")
    if found.masks is not None:
        size = found.image_size_hw or tuple(found.masks.shape[-2:])
        if tuple(found.masks.shape) != (n, *size) or found.masks.dtype != torch.bool:
            raise ValueError(f"masks is {found.masks.dtype} {list(found.masks.shape)}; wanted torch.bool {[n, *size]}")
    if len({value.device for value in (found.boxes, found.scores, found.labels)}) > 1:
        raise ValueError("boxes, scores and labels lie on different devices; move them to one")
    if not isinstance(found.names, tuple):
        raise ValueError(f"names is a {type(found.names).__name__}; wanted a tuple of class names")


def _check_values(found: Detections) -> None:
    if len(found.scores) == 0:
        return
    boxes, scores, labels = (getattr(found, field.name).detach() for field in fields(found)[:3])
    if not bool(torch.isfinite(boxes).all()) or not bool((boxes[:, 2:] >= boxes[:, :2]).all()):
        raise ValueError("a box is not finite or has x2 < x1 or y2 < y1; wanted xyxy corners in pixels")
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ValueError(f"scores run from {float(scores.min())} to {float(scores.max())}; wanted 0..1")
    if not bool((scores[1:] <= scores[:-1]).all()):
        raise ValueError("scores are not in falling order; sort boxes, scores and labels by score first")
    if int(labels.min()) < 0 or int(labels.max()) >= len(found.names):
        raise ValueError(f"labels run from {int(labels.min())} to {int(labels.max())}; names has {len(found.names)}")


def _to_rle(masks: Tensor) -> list[dict[str, Any]]:
    from faster_coco_eval.core import mask as coco_mask

    codes = [coco_mask.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8))) for mask in masks]
    return [{"size": [int(v) for v in code["size"]], "counts": _text(code["counts"])} for code in codes]


def _from_rle(codes: Sequence[Mapping[str, Any]]) -> Tensor:
    from faster_coco_eval.core import mask as coco_mask

    return torch.stack([torch.from_numpy(coco_mask.decode(dict(code)).astype(bool)) for code in codes])


def _text(counts: bytes | str) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts
