"""Greedy suppression on the CPU: blocks of rows against the kept ones, in numpy, ended once enough is kept.

Work grows with rows x kept rows, not with rows squared, and a block's matrices stay in the second-level cache. numpy
because it computes in place and compares to bool several times faster than torch.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from torso.geometry.boxes import MIN_AREA, overlap_matrix
from torso.kernels.rule import Rule

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_BLOCK = 128
_LOOP_ROWS = 2048
_FEW = 8  # rows a wanted one, above which the early end saves more than comparing within labels only
_GROUP_ROWS = 32  # smaller groups cost more to start than to compare with all


class _Rows(NamedTuple):
    """Rows of one image: sides [4, R] (x1, y1, x2, y2), areas [R], labels [R], None where all are one label."""

    sides: Floats
    areas: Floats
    labels: Ints | None

    def at(self, rows: Ints) -> _Rows:
        # take, unlike [:, rows], gives rows of memory that numpy's vector loops can run along
        sides = self.sides.take(rows, axis=1)
        return _Rows(sides, self.areas[rows], None if self.labels is None else self.labels[rows])


def keep_cpu(boxes: Tensor, valid: Tensor, labels: Tensor | None, rule: Rule, max_keep: int) -> Tensor:
    """The answer of batched_keep for tensors on the CPU."""
    keep = np.zeros(tuple(valid.shape), dtype=np.bool_)
    for image in range(len(keep)):
        rows = np.flatnonzero(valid[image].numpy())
        kinds = None if labels is None else labels[image].numpy()[rows]
        for group, own in _groups(len(rows), kinds, max_keep):
            chosen = _greedy(_rows_of(boxes[image].numpy()[rows[group]], own), rule, max_keep)
            keep[image, rows[group[chosen]]] = True
    return torch.from_numpy(keep & (keep.cumsum(axis=1) <= max_keep))


def iou_in_place(a: Floats, a_areas: Floats, b: Floats, b_areas: Floats, scratch: Floats) -> Floats:
    """geometry.boxes.iou_matrix, bit for bit, on sides [4, N] and [4, M] with their areas: [N, M], a part of scratch.

    scratch: [3, N * M or more]. Without it the pages of fresh matrices would cost more than the arithmetic.
    """
    a, a_areas = a[..., None], a_areas[..., None]
    rows, columns = a.shape[1], b.shape[1]
    matrices: list[Floats] = [part[: rows * columns].reshape(rows, columns) for part in scratch]
    width, height, other = matrices
    _extent(np.minimum(a[2], b[2], out=width), np.maximum(a[0], b[0], out=other))
    _extent(np.minimum(a[3], b[3], out=height), np.maximum(a[1], b[1], out=other))
    np.multiply(width, height, out=width)
    np.subtract(np.add(a_areas, b_areas, out=other), width, out=other)
    np.divide(width, np.maximum(other, np.float32(MIN_AREA), out=other), out=width)  # intersection over union
    return width


def _extent(upper: Floats, lower: Floats) -> Floats:
    np.maximum(np.subtract(upper, lower, out=upper), np.float32(0), out=upper)
    return upper


def _rows_of(boxes: Floats, labels: Ints | None) -> _Rows:
    sides = np.ascontiguousarray(boxes.T)
    return _Rows(sides, _extent(sides[2].copy(), sides[0]) * _extent(sides[3].copy(), sides[1]), labels)


def _groups(rows: int, labels: Ints | None, max_keep: int) -> list[tuple[Ints, Ints | None]]:
    """Rows apart by label where groups are large and most rows are wanted (proposals of feature levels).

    Together where classes are many, or where the best of all rows soon give max_keep and the rest need no look.
    """
    everything = np.arange(rows)
    if labels is None:
        return [(everything, None)]
    kinds, kind = np.unique(labels, return_inverse=True)
    if rows < _GROUP_ROWS * len(kinds) or rows > _FEW * max_keep:
        return [(everything, kind)]
    return [(np.flatnonzero(kind == number), None) for number in range(len(kinds))]


def _greedy(rows: _Rows, rule: Rule, max_keep: int) -> Ints:
    """Numbers of the kept rows of one group, ascending; may be more than max_keep."""
    if _loop_is_faster(rows, rule, max_keep):
        ranks = torch.arange(len(rows.areas), 0, -1, dtype=torch.float32)
        return nms(torch.from_numpy(rows.sides.T), ranks, float(np.float32(rule.threshold))).numpy()  # type: ignore
    total, kept = len(rows.areas), np.empty(0, dtype=np.int64)
    scratch = np.empty((3, min(total, max_keep + _BLOCK) * _BLOCK), dtype=np.float32)
    for start in range(0, total, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, total))
        if len(kept):
            block = block[~_suppresses(rows.at(kept), rows.at(block), rule, scratch).any(axis=0)]
        block = block[_resolve(_suppresses(rows.at(block), rows.at(block), rule, scratch))]
        kept = np.concatenate([kept, block])
        if len(kept) >= max_keep:
            break
    return kept


def _loop_is_faster(rows: _Rows, rule: Rule, max_keep: int) -> bool:
    """Whether torchvision's compiled loop, which skips fallen rows but cannot end early, gives the same answer sooner.

    Not the same for >=, and for areas that geometry.boxes rounds up to MIN_AREA.
    """
    if rule.overlap != "iou" or rule.inclusive or rows.labels is not None:
        return False
    total = len(rows.areas)
    return total <= _LOOP_ROWS and 4 * max_keep >= total and not ((rows.areas > 0) & (rows.areas < MIN_AREA)).any()


def _suppresses(a: _Rows, b: _Rows, rule: Rule, scratch: Floats) -> Bools:
    """[N, M] bool: whether row i of a, if kept, suppresses row j of b."""
    if rule.overlap == "iou":
        overlaps = iou_in_place(a.sides, a.areas, b.sides, b.areas, scratch)
    else:
        ours, others = torch.from_numpy(a.sides.T), torch.from_numpy(b.sides.T)
        overlaps = overlap_matrix(ours, others, rule.overlap, beta=rule.beta).numpy()
    threshold = np.float32(rule.threshold)
    hit: Bools = overlaps >= threshold if rule.inclusive else overlaps > threshold
    if a.labels is None or b.labels is None:
        return hit
    np.logical_and(hit, a.labels[:, None] == b.labels, out=hit)
    return hit


def _resolve(suppresses: Bools) -> Bools:
    """Greedy choice within a block: [R, R] (row i suppresses column j) to the kept rows, [R]."""
    suppresses = np.triu(suppresses, k=1)
    removed = np.zeros(len(suppresses), dtype=np.bool_)
    for row in np.flatnonzero(suppresses.any(axis=1)):
        if not removed[row]:
            removed |= suppresses[row]
    return ~removed
