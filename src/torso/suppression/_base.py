"""The contract of suppression: candidates in, candidates out; and the limits that all share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from torso.bounds import BelowOne, Count
from torso.plain_values import Checked, check_fields
from torso.suppression._batched import first_rows, groups, label_rank, rank, take
from torso.types import Candidates

if TYPE_CHECKING:
    from torso.heads._base import Head


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
        """With room for the rows of so many pictures."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return replace(self, **{name: count * factor for name, count in counts.items() if count is not None})


class Suppression(Checked):
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
