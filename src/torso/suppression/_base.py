"""The contract of suppression: candidates in, candidates out; and the limits that all share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from torso.suppression._batched import first_rows, groups, label_rank, rank, take
from torso.suppression._limits import Limits
from torso.types import Candidates

if TYPE_CHECKING:
    from torso.heads._base import Head


class Suppression:
    """[B, T] rows in any order -> [B, max_detections] rows, best first; empty rows have score 0. Float32 inside.

    A kind names every limit in its constructor, as all arguments of parts are, and hands them on in one Limits.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def __call__(self, candidates: Candidates) -> Candidates:
        raise NotImplementedError

    def check(self, head: Head) -> None:
        """Raise ValueError, with the reason and the remedy, where this head's candidates lack what is needed."""

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
        return take(rows, self.places(rows.labels, keep))

    def places(self, labels: Tensor, keep: Tensor) -> Tensor:
        """Their numbers: [B, max_detections], T where none is left."""
        if self.limits.max_per_class is not None:
            keep = keep & (label_rank(labels, keep) < self.limits.max_per_class)
        return first_rows(keep, self.limits.max_detections)
