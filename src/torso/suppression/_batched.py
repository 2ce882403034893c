"""What every suppression shares: ranking candidates, gathering rows, checking arguments.

Letters: B images, T candidate rows, K rows that come out. A row number equal to T, one past the last, stands for the
empty row (index -1, all else 0), so that gathers need no condition and T = 0 no special case.
Labels are compared where boxes are compared; boxes are never moved apart by an offset, which costs precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torso.kernels.pick import pick_by, pick_rows
from torso.kernels.rule import Comparison, Decay
from torso.types import Candidates

_MOST_LEVELS = 64  # strides grow from level to level: no picture has as many


def rank(
    candidates: Candidates, *, score_threshold: float = 0.0, top: int | None = None, top_per_label: int | None = None
) -> Candidates:
    """Rows best first, equal scores in their old order, at most `top` of them and `top_per_label` of one label.

    Boxes and scores in float32. A row counts when its score is above score_threshold, and score and box are finite; the
    others become empty rows and come last.
    """
    candidates = scored(candidates, score_threshold)
    scores, order = candidates.scores.sort(dim=1, descending=True, stable=True)
    counts = scores > 0
    if top_per_label is not None:
        counts = counts & (label_rank(candidates.labels.gather(1, order), counts) < top_per_label)
        place = first_rows(counts, scores.shape[1])
        order = gather_rows(order, place, scores.shape[1])
    else:
        order = order.where(counts, scores.shape[1])
    return take(candidates, order if top is None else order[:, :top])


def groups(rows: Candidates, *, class_agnostic: bool) -> Tensor | None:
    """[B, T] int64: rows of one number compete, those of one label and level; None where all rows do.

    class_agnostic leaves labels out. Levels are told apart only where the head says them (Candidates.level).
    """
    if rows.level is None:
        return None if class_agnostic else rows.labels
    return rows.level if class_agnostic else rows.labels * _MOST_LEVELS + rows.level


def label_rank(labels: Tensor, counts: Tensor) -> Tensor:
    """How many counting rows of its label stand before each row: [B, T] int64 and bool to [B, T] int64."""
    rows = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    kinds, order = labels.where(counts, -1).sort(dim=1, stable=True)
    place = rows - torch.searchsorted(kinds, kinds)
    return torch.empty_like(place).scatter(1, order, place)


def scored(candidates: Candidates, score_threshold: float) -> Candidates:
    """The rows where they are, float32, with score 0 (and the box at 0) where a row does not count; see rank."""
    boxes, scores = candidates.boxes.float(), candidates.scores.float()
    counts = (scores > score_threshold) & (scores < torch.inf) & boxes.isfinite().all(-1)
    return candidates._replace(boxes=boxes.where(counts.unsqueeze(-1), 0.0), scores=scores.where(counts, 0.0))


def take(candidates: Candidates, order: Tensor) -> Candidates:
    """The rows whose numbers are given, [B, K] int64 in 0..T, T being the empty row."""
    return Candidates(
        boxes=gather_rows(candidates.boxes, order, 0),
        scores=gather_rows(candidates.scores, order, 0),
        labels=gather_rows(candidates.labels, order, 0),
        index=gather_rows(candidates.index, order, -1),
        variance=None if candidates.variance is None else gather_rows(candidates.variance, order, 0),
        level=None if candidates.level is None else gather_rows(candidates.level, order, 0),
    )


def first_rows(keep: Tensor, count: int) -> Tensor:
    """Numbers of the first `count` kept rows of each image: [B, T] bool to [B, count] int64, T where none is left."""
    batch, rows = keep.shape
    place = keep.long().cumsum(dim=1) - 1
    place = place.where(keep & (place < count), count)  # all others meet in one column more, cut off below
    numbers = torch.arange(rows, device=keep.device).expand(batch, rows)
    order = torch.full((batch, count + 1), rows, dtype=torch.int64, device=keep.device)
    return order.scatter(1, place, numbers)[:, :count]


def gather_rows(values: Tensor, order: Tensor, empty: int) -> Tensor:
    """One column's rows of the given numbers, `empty` for the number one past the last: [B, T, ...] to [B, K, ...]."""
    padded = torch.cat([values, values.new_full((values.shape[0], 1, *values.shape[2:]), empty)], dim=1)
    return padded.gather(1, order if values.dim() == 2 else order.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def pick_candidates(
    rows: Candidates, labels: Tensor | None, test: Comparison, decay: Decay, max_picks: int
) -> tuple[Tensor, Tensor]:
    """pick_rows by any overlap."""
    if test.rule is not None:
        return pick_rows(rows.boxes, rows.scores, labels, rule=test.rule, decay=decay, max_picks=max_picks)

    def measure(row: Tensor) -> Tensor:
        return test.overlap(take(rows, row), rows)[:, 0]

    return pick_by(measure, rows.scores, labels, test.holds, decay, max_picks)
