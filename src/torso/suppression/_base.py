"""The contract of suppression: candidates in, candidates out; and the limits that all share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from torso.suppression._batched import check_count, check_score, first_rows, label_rank, rank, take
from torso.types import Candidates

if TYPE_CHECKING:
    from torso.heads._base import Head


class Suppression:
    """[B, T] rows in any order -> [B, max_detections] rows, best first; empty rows have score 0. Float32 inside.

    Args:
        max_detections: rows an image that come out. max_per_class: of them, at most so many of one label.
        pre_nms_top: only the best so many rows take part. pre_nms_top_per_class: of each label (SSD has 400).
        score_threshold: only rows above it take part; rows with a NaN score or a box that is not finite never do.
        class_agnostic: all boxes compete, in place of only those of one label.
    """

    def __init__(
        self,
        *,
        max_detections: int = 100,
        max_per_class: int | None = None,
        pre_nms_top: int | None = None,
        pre_nms_top_per_class: int | None = None,
        score_threshold: float = 0.0,
        class_agnostic: bool = False,
    ) -> None:
        check_count("max_detections", max_detections)
        check_count("max_per_class", max_per_class)
        check_count("pre_nms_top", pre_nms_top)
        check_count("pre_nms_top_per_class", pre_nms_top_per_class)
        check_score("score_threshold", score_threshold)
        self.max_detections = max_detections
        self.max_per_class = max_per_class
        self.pre_nms_top = pre_nms_top
        self.pre_nms_top_per_class = pre_nms_top_per_class
        self.score_threshold = score_threshold
        self.class_agnostic = class_agnostic

    def __call__(self, candidates: Candidates) -> Candidates:
        raise NotImplementedError

    def check(self, head: Head) -> None:
        """Raise ValueError, with the reason and the remedy, where this head's candidates lack what is needed."""

    def ranked(self, candidates: Candidates) -> Candidates:
        """The rows that take part, best first."""
        return rank(
            candidates,
            score_threshold=self.score_threshold,
            top=self.pre_nms_top,
            top_per_label=self.pre_nms_top_per_class,
        )

    def labels(self, rows: Candidates) -> Tensor | None:
        """What keeps rows from competing: their labels, or None where all compete."""
        return None if self.class_agnostic else rows.labels

    def best(self, rows: Candidates, keep: Tensor) -> Candidates:
        """The first max_detections of the kept rows, at most max_per_class of a label; rows best first, keep [B, T]."""
        return take(rows, self.places(rows.labels, keep))

    def places(self, labels: Tensor, keep: Tensor) -> Tensor:
        """Their numbers: [B, max_detections], T where none is left."""
        if self.max_per_class is not None:
            keep = keep & (label_rank(labels, keep) < self.max_per_class)
        return first_rows(keep, self.max_detections)
