"""Soft-NMS (1704.04503): take the best box, lower the scores of what overlaps it instead of dropping it, repeat."""

from __future__ import annotations

from typing import get_args

from torso.geometry.boxes import OverlapKind
from torso.suppression._base import Suppression
from torso.suppression._batched import Rule, check_count, check_overlap, check_score, rank, scored, take
from torso.suppression._pick import Decay, DecayMethod, pick_rows
from torso.types import Candidates


class SoftNMS(Suppression):
    """Decaying suppression; a call gives max_detections rows an image with their lowered scores, best first.

    method: "linear" multiplies by 1 - overlap where the overlap is iou_threshold or more (inclusive=False: more),
    "gaussian" by exp(-overlap^2 / sigma) wherever boxes overlap; it has no use for iou_threshold. min_score: a row
    whose score has fallen below it is dropped; score_threshold: only rows above it take part at first. Keep both low:
    a later threshold takes most of the gain away. per_class: a box lowers only boxes of its label. pre_nms_top: only
    the best so many rows take part. Rows with a NaN score or a box that is not finite never take part; of equal
    scores the first row is picked first.
    """

    def __init__(
        self,
        *,
        method: DecayMethod = "gaussian",
        iou_threshold: float = 0.3,
        sigma: float = 0.5,
        min_score: float = 1e-3,
        per_class: bool = True,
        max_detections: int = 100,
        pre_nms_top: int | None = None,
        score_threshold: float = 0.0,
        overlap: OverlapKind = "iou",
        inclusive: bool = True,
    ) -> None:
        if method not in get_args(DecayMethod):
            raise ValueError(f"method={method!r} is unknown; choose one of {', '.join(get_args(DecayMethod))}")
        if not sigma > 0:
            raise ValueError(f"sigma={sigma} must be above 0; the paper uses 0.5")
        check_overlap(overlap, iou_threshold)
        check_score("min_score", min_score)
        check_score("score_threshold", score_threshold)
        check_count("max_detections", max_detections)
        check_count("pre_nms_top", pre_nms_top)
        self.rule = Rule(overlap, iou_threshold, inclusive)
        self.decay = Decay(method, sigma, min_score)
        self.per_class = per_class
        self.max_detections = max_detections
        self.pre_nms_top = pre_nms_top
        self.score_threshold = score_threshold

    def __call__(self, candidates: Candidates) -> Candidates:
        """Candidates [B, T, ...] in any order to [B, max_detections, ...], best first, float32."""
        if self.pre_nms_top is None:  # the picking ranks, so sorting first would be work for nothing
            rows = scored(candidates, self.score_threshold)
        else:
            rows = rank(candidates, score_threshold=self.score_threshold, top=self.pre_nms_top)
        order, scores = pick_rows(
            rows.boxes,
            rows.scores,
            rows.labels if self.per_class else None,
            rule=self.rule,
            decay=self.decay,
            max_picks=self.max_detections,
        )
        found = take(rows, order)  # built anew: torch.compile cannot return what _replace made
        return Candidates(found.boxes, scores, found.labels, found.index, found.variance)
