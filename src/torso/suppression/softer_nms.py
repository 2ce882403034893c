"""Softer-NMS (1809.08545): hard or Soft-NMS chooses the boxes, then variances vote where they lie."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from torso.geometry.coders._base import Coder
from torso.geometry.overlaps import Overlap, PairOverlap
from torso.kernels.keep import keep_rows
from torso.kernels.rule import Decay, comparison
from torso.parts import arguments
from torso.suppression._base import Limits, Predicts, Suppression, check_score, pick_candidates
from torso.suppression._vote import Voting, VotingForm, vote
from torso.types import Candidates, gather_rows

ScoreMethod = Literal["hard", "linear", "gaussian"]


class SofterNMS(Suppression):
    """Boxes chosen by their scores, then averaged with the boxes around them, weighted by how sure those are.

    method: who is chosen, and the scores: "hard" (NMS), or Soft-NMS's "linear" or "gaussian" (the paper's best).
    iou_threshold, inclusive: of hard and linear, above 0.5 in both as in Detectron, on which the paper's code builds
    (SoftNMS has its own paper's 0.3 or more); sigma, min_score: of Soft-NMS. voting: "paper" weighs rows with any
    overlap by exp(-(1 - overlap)^2 / voting_sigma) / variance; "seed" weighs rows above voting_threshold by
    1 / variance. voting_threshold: None is 0 in the paper's form and iou_threshold in the seed's. Only rows that take
    part vote, with their boxes as predicted, and with class_agnostic=False only those of the label. overlap: "iou",
    "giou", "diou", or an Overlap. A call raises ValueError for candidates without variance.
    """

    def __init__(
        self,
        *,
        method: ScoreMethod = "gaussian",
        iou_threshold: float = 0.5,
        inclusive: bool = False,
        sigma: float = 0.5,
        min_score: float = 1e-3,
        voting: VotingForm = "paper",
        voting_sigma: float = 0.02,
        voting_threshold: float | None = None,
        overlap: PairOverlap | Overlap = "iou",
        class_agnostic: bool = False,
        max_detections: int = 100,
        max_per_class: int | None = None,
        pre_nms_top: int | None = None,
        pre_nms_top_per_class: int | None = None,
        score_threshold: float = 0.0,
    ) -> None:
        super().__init__(
            Limits(max_detections, max_per_class, pre_nms_top, pre_nms_top_per_class, score_threshold, class_agnostic)
        )
        for name, value, known in (("method", method, ScoreMethod), ("voting", voting, VotingForm)):
            if value not in get_args(known):
                raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(get_args(known))}")
        if not (sigma > 0 and voting_sigma > 0):
            raise ValueError(f"sigma={sigma} and voting_sigma={voting_sigma} must be above 0; the papers use 0.5, 0.02")
        check_score("min_score", min_score)
        self.test = comparison(overlap, iou_threshold, inclusive=inclusive)
        self.decay = None if method == "hard" else Decay(method, sigma, min_score)
        own = 0.0 if voting == "paper" else iou_threshold
        threshold = own if voting_threshold is None else voting_threshold
        self.voting = Voting(voting, comparison(overlap, threshold, inclusive=False).threshold, voting_sigma)

    def __call__(self, candidates: Candidates) -> Candidates:
        """Candidates [B, T, ...] in any order to [B, max_detections, ...], best first, float32."""
        if candidates.variance is None:
            raise ValueError(f"Softer-NMS weighs boxes by their variance, and these have none: {_REMEDY}")
        rows = self.ranked(candidates)
        order, scores = self._chosen(rows)
        found = rows.take(order).changed(scores=scores)
        return vote(found, order, rows, self.voting, self.test.overlap, class_agnostic=self.limits.class_agnostic)

    def check(self, head: Predicts) -> None:
        if not head.has_uncertainty:
            raise ValueError(f"Softer-NMS weighs boxes by their variance, and {type(head).__name__} {_missing(head)}")

    def _chosen(self, rows: Candidates) -> tuple[Tensor, Tensor]:
        """Numbers of the rows that stay, [B, max_detections], T where none is left, and their scores."""
        alike, most = self.groups(rows), self.limits.max_detections
        capped = self.limits.max_per_class is not None
        if self.decay is None:
            keep = keep_rows(rows, alike, self.test, None if capped else most)
            order = self.places(rows.labels, keep)
            return order, gather_rows(rows.scores, order, 0)
        total = rows.scores.shape[1]
        order, scores = pick_candidates(rows, alike, self.test, self.decay, total if capped else most)
        if not capped:
            return order, scores
        place = self.places(gather_rows(rows.labels, order, 0), scores > 0)
        return gather_rows(order, place, total), gather_rows(scores, place, 0)


_TRAINED = "--head.uncertainty=true --box-loss kl"
_REMEDY = f"choose nms or soft_nms, or a head that is trained with {_TRAINED}"


def _missing(head: Predicts) -> str:
    """Why a head predicts no variance, and what does."""
    if "uncertainty" not in arguments(type(head)):
        return (
            "cannot learn one: choose --suppression nms or soft_nms, or a model of a dense or two-stage head "
            f"(retinanet, fcos, faster_rcnn), trained with {_TRAINED}"
        )
    coder: Coder = head.coder  # type: ignore[attr-defined]  # of every head that has the argument
    if coder.bins:
        return (
            "predicts none of its distributions of sides; plain codes have one: train with --head.coder ltrb "
            f"{_TRAINED}, or choose --suppression nms or soft_nms"
        )
    return f"predicts none here: train with {_TRAINED}, or choose --suppression nms or soft_nms"
