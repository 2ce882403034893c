"""The contract of suppression: candidates in, candidates out; the limits that all share, ranking, and what competes.

Letters: B images, T candidate rows, K rows that come out. A row number equal to T, one past the last, stands for the
empty row (Candidates.take), so that gathers need no condition and T = 0 no special case.
Labels are compared where boxes are compared; boxes are never moved apart by an offset, which costs precision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from torso.bounds import BelowOne, Count
from torso.kernels.keep import first_rows
from torso.kernels.pick import pick_by, pick_rows
from torso.kernels.rule import Comparison, Decay
from torso.plain_values import Checked, check_fields
from torso.types import Candidates, gather_rows

_MOST_LEVELS = 64  # strides grow from level to level: no image has as many
_COUNTS = ("max_detections", "max_per_class", "pre_nms_top", "pre_nms_top_per_class")


@dataclass(frozen=True)
class Limits:
    """Checked when made: ValueError for a count below 1 or a threshold outside 0..1. None is no limit.

    max_detections: rows an image that come out. max_per_class: of them, at most so many of one label.
    pre_nms_top: only the best so many rows take part. pre_nms_top_per_class: of each label (SSD has 400).
    score_threshold: only rows above it take part; rows with a score or a box that is not finite never do.
    class_agnostic: all boxes compete, in place of only those of one label; where a head keeps its levels apart
    (levels_apart), in either case only those of one level.
    """

    max_detections: Count = 100
    max_per_class: Count | None = None
    pre_nms_top: Count | None = None
    pre_nms_top_per_class: Count | None = None
    score_threshold: BelowOne = 0.0
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    def times(self, factor: int) -> Limits:
        """With room for the rows of so many images."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return replace(self, **{name: count * factor for name, count in counts.items() if count is not None})


class Predicts(Protocol):
    """What a suppression may ask of a head: whether its candidates have a variance."""

    @property
    def has_uncertainty(self) -> bool: ...


class Suppression(Checked):
    """[B, T] rows in any order -> [B, max_detections] rows, best first; empty rows have score 0. Float32 inside.

    A kind names every limit in its constructor, as all arguments of parts are, and hands them on in one Limits.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def __call__(self, candidates: Candidates) -> Candidates:
        raise NotImplementedError

    def check(self, head: Predicts) -> None:
        """Raise ValueError, with the reason and the remedy, where this head's candidates miss what this rule needs."""

    def ranked(self, candidates: Candidates) -> Candidates:
        """The rows that take part, best first."""
        limits = self.limits
        return rank(
            candidates,
            score_threshold=limits.score_threshold,
            top=limits.pre_nms_top,
            top_per_label=limits.pre_nms_top_per_class,
        )

    def groups(self, rows: Candidates) -> Tensor | None:
        """[B, T] int64: rows of different numbers do not compete; None where all do."""
        return groups(rows, class_agnostic=self.limits.class_agnostic)

    def best(self, rows: Candidates, keep: Tensor) -> Candidates:
        """The first max_detections of the kept rows, at most max_per_class of a label; rows best first, keep [B, T]."""
        return rows.take(self.places(rows.labels, keep))

    def places(self, labels: Tensor, keep: Tensor) -> Tensor:
        """Their numbers: [B, max_detections], T where none is left."""
        if self.limits.max_per_class is not None:
            keep = keep & (label_rank(labels, keep) < self.limits.max_per_class)
        return first_rows(keep, self.limits.max_detections)


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
    return candidates.take(order if top is None else order[:, :top])


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
    return candidates.changed(boxes=boxes.where(counts.unsqueeze(-1), 0.0), scores=scores.where(counts, 0.0))


def pick_candidates(
    rows: Candidates, labels: Tensor | None, test: Comparison, decay: Decay, max_picks: int
) -> tuple[Tensor, Tensor]:
    """pick_rows by any overlap."""
    if test.rule is not None:
        return pick_rows(rows.boxes, rows.scores, labels, rule=test.rule, decay=decay, max_picks=max_picks)

    def measure(row: Tensor) -> Tensor:
        return test.overlap(rows.take(row), rows)[:, 0]

    return pick_by(measure, rows.scores, labels, test.holds, decay, max_picks)
