"""Softer-NMS (1809.08545): hard or Soft-NMS chooses the boxes, then variances vote where they lie."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from torso.bounds import BelowOne, Count, Positive
from torso.errors import PartError, Remedy, Settings
from torso.geometry.coders._base import Coder
from torso.geometry.overlaps import Overlap, PairOverlap
from torso.kernels.keep import keep_rows
from torso.kernels.rule import Decay, comparison
from torso.parts import arguments
from torso.suppression._base import Limits, Predicts, Suppression, pick_candidates
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
        sigma: Positive = 0.5,
        min_score: BelowOne = 1e-3,
        voting: VotingForm = "paper",
        voting_sigma: Positive = 0.02,
        voting_threshold: float | None = None,
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
        self.decay = None if method == "hard" else Decay(method, sigma, min_score)
        own = 0.0 if voting == "paper" else iou_threshold
        threshold = own if voting_threshold is None else voting_threshold
        self.voting = Voting(voting, comparison(overlap, threshold, inclusive=False).threshold, voting_sigma)

    def __call__(self, candidates: Candidates) -> Candidates:
        """Candidates [B, T, ...] in any order to [B, max_detections, ...], best first, float32."""
        if candidates.variance is None:
            raise PartError(
                "Softer-NMS weighs boxes by their variance, and these have none",
                remedies=[_OTHERWISE, _TRAINED],
            )
        rows = self.ranked(candidates)
        order, scores = self._chosen(rows)
        found = rows.take(order).changed(scores=scores)
        return vote(found, order, rows, self.voting, self.test.overlap, class_agnostic=self.limits.class_agnostic)

    def check(self, head: Predicts) -> None:
        if not head.has_uncertainty:
            raise _missing(head)

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


_TRAINED: Settings = {"head.uncertainty": True, "criterion.box.loss": "kl"}
_OTHERWISE: Settings = {"suppression": "nms"}


def _missing(head: Predicts) -> PartError:
    """Why a head predicts no variance, and what does."""
    why, ways = "predicts none here", list[Remedy]([_TRAINED, _OTHERWISE])
    if "uncertainty" not in arguments(type(head)):
        why = "cannot learn one"
        ways = [_OTHERWISE, "choose a model of a dense or two-stage head (retinanet, fcos, faster_rcnn)"]
    elif _coder(head).bins:
        why = "predicts none of its distributions of sides; plain codes have one"
        ways = [{"head.coder": "ltrb", **_TRAINED}, _OTHERWISE]
    return PartError(f"Softer-NMS weighs boxes by their variance, and {type(head).__name__} {why}", remedies=ways)


def _coder(head: Predicts) -> Coder:
    """Of a head that can learn uncertainty: each of those has one."""
    coder: Coder = head.coder  # type: ignore[attr-defined]
    return coder
