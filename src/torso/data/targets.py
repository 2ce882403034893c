"""The ground truth of a batch, padded, as training sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torso.data.objects import Objects


class Targets(NamedTuple):
    """Ground truth of a batch, padded to M rows an image; which rows are real is said, never guessed.

    boxes: [B, M, 4] xyxy input pixels; labels: [B, M] int64 in 0..K-1; valid: [B, M] bool;
    crowd: [B, M] bool (a region of many objects: never matched); masks: [B, M, H, W] uint8 or None.

    A further column, [B, M, ...] or None, is a further field here and of Objects, under the same name.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    crowd: Tensor
    masks: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Targets:
        """Every column changed; one that is absent stays so."""
        return _targets([None if column is None else change(column) for column in self])

    def narrow(self, start: int, length: int) -> Targets:
        """At most `length` rows of each image from `start` on: [B, <= length, ...], views."""
        return self.map(lambda column: column[:, start : start + length])

    def image(self, row: int) -> Targets:
        """Those of one image, [1, M, ...], views."""
        return self.map(lambda column: column[row : row + 1])

    def take(self, rows: Tensor) -> Targets:
        """The rows of these numbers, [B, K] int64 in 0..M-1, of each image."""
        return self.map(lambda column: column.gather(1, _wide(rows, column)))

    @staticmethod
    def concat(parts: Sequence[Targets]) -> Targets:
        """Rows [B, M_i] of one batch, part after part: [B, sum of M_i]; a column that one part lacks is absent."""
        columns = [list(column) for column in zip(*parts, strict=True)]
        return _targets([None if any(c is None for c in column) else torch.cat(column, dim=1) for column in columns])

    @staticmethod
    def padded(images: Sequence[Objects], rows: int) -> Targets:
        """The objects of every image in `rows` rows, at least as many as the largest has; what is left is 0."""
        valid = torch.arange(rows) < torch.tensor([objects.number for objects in images])[:, None]
        columns = {
            name: None if any(c is None for c in column) else _padded(column, rows)
            for name, column in zip(Objects._fields, zip(*images, strict=True), strict=True)
        }
        return Targets(valid=valid, **columns)  # type: ignore[arg-type]  # the first three are never None


def _targets(columns: Sequence[Tensor | None]) -> Targets:
    return Targets(*columns)  # type: ignore[arg-type]  # the first four are never None


def _wide(rows: Tensor, column: Tensor) -> Tensor:
    shape = column.shape[2:]
    return rows.reshape(*rows.shape, *(1 for _ in shape)).expand(-1, -1, *shape)


def _padded(columns: Sequence[object], rows: int) -> Tensor:
    tensors = [torch.as_tensor(column) for column in columns]
    batch = tensors[0].new_zeros(len(tensors), rows, *tensors[0].shape[1:])
    for mine, theirs in zip(batch, tensors, strict=True):
        mine[: len(theirs)] = theirs
    return batch
