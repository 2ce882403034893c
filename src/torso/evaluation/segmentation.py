"""Segmentation IoU: of class maps by one confusion table over the set (VOC2012), and of masks that may overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torso.evaluation.truth import Floats, Ints

Maps = Tensor | npt.NDArray[np.generic]
"""Of an image or a batch, whatever leading dimensions; a tensor is counted on its own device."""


@dataclass(frozen=True, eq=False)
class SegmentationScores:
    """iou [K] of each class, 0..1, nan where neither truth nor prediction has it and of a background that is left out;
    accuracy: share of right pixels.

    mIoU is the mean over the classes that are not nan; nan, as accuracy is, where no pixel was evaluated.
    counts [K, K]: pixels, row the true class, column the predicted one; of masks [K, 3]: both, truth, prediction.
    """

    names: tuple[str, ...]
    iou: Floats
    mIoU: float
    accuracy: float
    counts: Ints

    def __str__(self) -> str:
        width = max(map(len, self.names))
        rows = [f"{name:<{width}}  {_percent(one)}" for name, one in zip(self.names, self.iou, strict=True)]
        return "\n".join([f"mIoU {_percent(self.mIoU)}  pixel accuracy {_percent(self.accuracy)}", *rows])


class ClassMaps:
    """One class a pixel: add images as they come, compute at the end; parts of several ranks are merged.

    Args:
        names: of the classes 0..K-1.
        ignore: label of the truth whose pixels are left out, whatever was predicted there (VOC 255; None: no such).
        background: the class that has no IoU and no part in mIoU (VOC counts it as the others: None). Its pixels stay:
            taken for another class they lower that one's IoU, and accuracy and counts have them all.
    """

    def __init__(self, names: Sequence[str], *, ignore: int | None = 255, background: int | None = None) -> None:
        _check_names(names)
        if ignore is not None and 0 <= ignore < len(names):
            raise ValueError(
                f"ignore={ignore} is the class {names[ignore]!r}; a label outside 0..{len(names) - 1} "
                f"was wanted, or None; background={ignore} leaves a class out of the mean"
            )
        _check_background(names, background)
        self.names, self.ignore, self.background = tuple(names), ignore, background
        self.counts: Ints = np.zeros((len(names), len(names)), dtype=np.int64)

    def add(self, truth: Maps, predicted: Maps) -> None:
        """Maps of labels of one shape; ValueError for other shapes or labels that no class has."""
        actual, found = _labels(truth, "truth"), _labels(predicted, "prediction")
        if actual.shape != found.shape:
            raise ValueError(
                f"truth of shape {tuple(actual.shape)} and prediction of {tuple(found.shape)} came; "
                "equal ones were wanted: resize the prediction to the image"
            )
        found = found.to(actual.device)
        if self.ignore is not None:
            kept = actual != self.ignore
            actual, found = actual[kept], found[kept]
        for what, labels in (("truth", actual), ("prediction", found)):
            self._check_range(what, labels)
        size = len(self.names)
        table = torch.bincount((actual * size + found).flatten(), minlength=size * size)
        self.counts = self.counts + table.reshape(size, size).cpu().numpy()

    def merge(self, counts: Sequence[Ints]) -> None:
        """Add the `counts` of other ranks."""
        self.counts = sum(counts, self.counts)

    def compute(self) -> SegmentationScores:
        """Over all that was added."""
        true = np.diagonal(self.counts)
        union = self.counts.sum(0) + self.counts.sum(1) - true
        total = int(self.counts.sum())
        accuracy = float(true.sum() / total) if total else float("nan")
        if self.background is not None:
            union[self.background] = 0
        return _scores(self.names, true, union, accuracy, self.counts)

    def _check_range(self, what: str, labels: Tensor) -> None:
        if not labels.numel():
            return
        low, high = (int(v) for v in torch.aminmax(labels))
        if low < 0 or high >= len(self.names):
            raise ValueError(
                f"{what} has the label {low if low < 0 else high}; 0..{len(self.names) - 1} "
                f"({len(self.names)} classes) were wanted{self._but()}"
            )

    def _but(self) -> str:
        return "" if self.ignore is None else f", or {self.ignore} in the truth where nothing is evaluated"


class OverlappingMasks:
    """Any number of classes a pixel: a binary mask for each class; IoU of each class over the whole set.

    accuracy is the share of (class, pixel) decisions that are right.
    """

    def __init__(self, names: Sequence[str]) -> None:
        _check_names(names)
        self.names = tuple(names)
        self.counts: Ints = np.zeros((len(names), 3), dtype=np.int64)
        self.pixels = 0

    def add(self, truth: Maps, predicted: Maps, ignore: Maps | None = None) -> None:
        """truth, predicted: bool [K, h, w] or [B, K, h, w]; ignore: bool of the same without K, pixels left out."""
        actual, found = _masks(truth, "truth"), _masks(predicted, "prediction")
        classes = len(self.names)
        if actual.shape != found.shape or actual.dim() not in (3, 4) or actual.shape[-3] != classes:
            raise ValueError(
                f"masks of shape {tuple(actual.shape)} and {tuple(found.shape)} came; [{classes}, h, w] "
                f"or [B, {classes}, h, w] was wanted of both"
            )
        found = found.to(actual.device)
        evaluated = torch.ones_like(actual) if ignore is None else ~_masks(ignore, "ignore").to(actual.device)
        evaluated = evaluated if ignore is None else evaluated.unsqueeze(-3).expand_as(actual)
        sums = [(part & evaluated).movedim(-3, 0).flatten(1).sum(1) for part in (actual & found, actual, found)]
        self.counts = self.counts + torch.stack(sums, dim=1).cpu().numpy()
        self.pixels += int(evaluated.sum())

    def merge(self, parts: Sequence[OverlappingMasks]) -> None:
        """Add what other ranks counted."""
        self.counts = sum((one.counts for one in parts), self.counts)
        self.pixels += sum(one.pixels for one in parts)

    def compute(self) -> SegmentationScores:
        """Over all that was added."""
        both, truth, found = self.counts.T
        union = truth + found - both
        wrong = int((union - both).sum())
        accuracy = 1 - wrong / self.pixels if self.pixels else float("nan")
        return _scores(self.names, both, union, accuracy, self.counts)


def mask_iou(a: Maps, b: Maps, *, crowd: Maps | None = None) -> Tensor:
    """[N, M] float32 IoU of binary masks [N, h, w] and [M, h, w]; two empty masks have 0.

    crowd: [M] bool; with those of b that are crowds, the union is a's own area, as COCO has it.
    """
    first, second = _masks(a, "a"), _masks(b, "b")
    if first.dim() != 3 or second.dim() != 3 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"masks of shape {tuple(first.shape)} and {tuple(second.shape)} came; [N, h, w] and [M, h, w] "
            "of one size were wanted"
        )
    # float64 holds any number of pixels, float32 only 2^24
    rows, columns = first.flatten(1).double(), second.to(first.device).flatten(1).double()
    inter = rows @ columns.T
    area = rows.sum(1)[:, None]
    union = area + columns.sum(1) - inter
    if crowd is not None:
        union = torch.where(_masks(crowd, "crowd").to(first.device), area, union)
    return torch.where(union > 0, inter / union.clamp(min=1), 0.0).float()


def _scores(names: tuple[str, ...], both: Ints, union: Ints, accuracy: float, counts: Ints) -> SegmentationScores:
    iou = np.divide(both, union, out=np.full(len(names), np.nan), where=union > 0)
    known = iou[~np.isnan(iou)]
    return SegmentationScores(names, iou, float(known.mean()) if len(known) else float("nan"), accuracy, counts)


def _check_names(names: Sequence[str]) -> None:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"different names of one class or more were wanted; {list(names)} came")


def _check_background(names: Sequence[str], background: int | None) -> None:
    if background is None:
        return
    if not 0 <= background < len(names):
        raise ValueError(f"background={background} is no class; a number of 0..{len(names) - 1} was wanted, or None")
    if len(names) == 1:
        raise ValueError(f"background={background} would leave out the only class; name the others, or give None")


def _labels(maps: Maps, what: str) -> Tensor:
    labels = torch.as_tensor(maps)
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"{what} is {labels.dtype}; whole numbers were wanted: take the argmax over classes first")
    return labels.long()


def _masks(maps: Maps, what: str) -> Tensor:
    masks = torch.as_tensor(maps)
    if masks.dtype != torch.bool:
        raise ValueError(f"{what} is {masks.dtype}; a bool mask was wanted: compare with a threshold first")
    return masks


def _percent(share: float) -> str:
    return "    -" if np.isnan(share) else f"{100 * share:5.1f}"
