"""Soft-NMS (1704.04503): take the best box, lower the scores of what overlaps it instead of dropping it, repeat."""

from __future__ import annotations

from torso.bounds import BelowOne, Count, Positive
from torso.geometry.overlaps import Overlap, PairOverlap
from torso.kernels.rule import Decay, DecayMethod, comparison
from torso.suppression._base import Limits, Suppression, pick_candidates, scored
from torso.types import Candidates


class SoftNMS(Suppression):
    """Decaying suppression; a call gives max_detections rows an image with their lowered scores, best first.

    method: "linear" multiplies by 1 - overlap where the overlap is iou_threshold or more (inclusive=False: more),
    "gaussian" by exp(-overlap^2 / sigma) wherever boxes overlap; it has no use for iou_threshold. min_score: a row
    whose score has fallen below it is dropped; score_threshold: only rows above it take part at first. Keep both low:
    a later threshold takes most of the gain away. overlap: "iou", "giou", "diou", or an Overlap. Of equal scores the
    first row is picked first. With max_per_class all rows are picked before it is counted, which takes longer.
    """

    def __init__(
        self,
        *,
        method: DecayMethod = "gaussian",
        iou_threshold: float = 0.3,
        sigma: Positive = 0.5,
        min_score: BelowOne = 1e-3,
        inclusive: bool = True,
        overlap: PairOverlap | Overlap = "iou",
        class_agnostic: bool = False,
        max_detections: Count = 100,
        max_per_class: Count | None = None,
        pre_nms_top: Count | None = None,
        pre_nms_top_per_class: Count | None = None,
        score_threshold: BelowOne = 0.0,
    ) -> None:
        super().__init__(
            Limits(max_detections, max_per_class, pre_nms_top, pre_nms_top_per_class, score_threshold, class_agnostic)
        )
        self.test = comparison(overlap, iou_threshold, inclusive=inclusive)
        self.decay = Decay(method, sigma, min_score)

    def __call__(self, candidates: Candidates) -> Candidates:
        """Candidates [B, T, ...] in any order to [B, max_detections, ...], best first, float32."""
        limits = self.limits
        if limits.pre_nms_top is None and limits.pre_nms_top_per_class is None:
            rows = scored(candidates, limits.score_threshold)  # the picking ranks; sorting first would be for nothing
        else:
            rows = self.ranked(candidates)
        picks = limits.max_detections if limits.max_per_class is None else rows.scores.shape[1]
        order, scores = pick_candidates(rows, self.groups(rows), self.test, self.decay, picks)
        found = rows.take(order).changed(scores=scores)
        return found if limits.max_per_class is None else self.best(found, found.scores > 0)
