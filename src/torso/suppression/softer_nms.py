"""Softer-NMS (1809.08545): hard or Soft-NMS chooses the boxes, then variances vote where they lie."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from torso.bounds import BelowOne, Count, Positive
from torso.errors import PartError, Remedy, Settings
from torso.geometry.coders._base import Coder
from torso.geometry.overlaps import Overlap, PairOverlap
from torso.kernels.keep import keep_rows
from torso.kernels.rule import Decay, comparison
from torso.parts import arguments
from torso.suppression._base import Limits, Predicts, Suppression, groups, pick_candidates
from torso.types import Candidates, gather_rows

ScoreMethod = Literal["hard", "linear", "gaussian"]
VotingForm = Literal["paper", "seed"]


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
        self.voting = _Voting(voting, comparison(overlap, threshold, inclusive=False).threshold, voting_sigma)

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


# px^2. A code that clamps its box at a bound says variance 0, and exp can overflow: neither may decide alone.
_LEAST, _MOST = 1e-4, 1e10


class _Voting(NamedTuple):
    """Who votes and how much: rows whose overlap with the chosen one is above threshold, and the chosen one itself.

    "paper": weight exp(-(1 - overlap)^2 / sigma) / variance; "seed" (the paper's first form): 1 / variance.
    """

    form: VotingForm
    threshold: float
    sigma: float


def vote(
    chosen: Candidates, order: Tensor, rows: Candidates, voting: _Voting, overlap: Overlap, *, class_agnostic: bool
) -> Candidates:
    """The chosen rows with their boxes moved; scores, labels and index stay. Each coordinate is averaged apart.

    chosen: [B, K] of rows [B, T], by their numbers in order (T: empty). Only rows that compete with the chosen one vote
    (groups). rows are the boxes as predicted: what moves has no vote. The variance becomes the mean of the voters',
    weighted alike: were they independent it would be less, but boxes that one network says of one object err together.
    """
    assert rows.variance is not None
    overlaps = overlap(chosen, rows)
    itself = torch.arange(rows.scores.shape[1], device=order.device) == order.unsqueeze(2)
    may = (overlaps > voting.threshold) & (rows.scores > 0).unsqueeze(1)
    own, others = (groups(c, class_agnostic=class_agnostic) for c in (chosen, rows))
    if own is not None and others is not None:
        may = may & (own.unsqueeze(2) == others.unsqueeze(1))
    weights = torch.ones_like(overlaps)
    if voting.form == "paper":
        weights = torch.exp(-((1 - overlaps) ** 2) / voting.sigma)
    weights = weights.where(may, 0.0).masked_fill(itself, 1.0)
    sure = 1 / rows.variance.float().nan_to_num(nan=_MOST).clamp(_LEAST, _MOST)
    filled = (chosen.scores > 0).unsqueeze(2)
    moved, spread = zip(*(_mean(weights * sure[..., c].unsqueeze(1), weights, chosen.boxes[..., c], rows.boxes[..., c])
                          for c in range(4)), strict=True)  # fmt: skip
    boxes, variance = torch.stack(moved, dim=-1).where(filled, 0.0), torch.stack(spread, dim=-1).where(filled, 0.0)
    return chosen.changed(boxes=boxes, variance=variance)


def _mean(weights: Tensor, shares: Tensor, own: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Of one coordinate, from its distances to the own one: sums of large coordinates would round pixels away.

    weights, shares: [B, K, T]; own: [B, K]; values: [B, T]. Elementwise, since a matrix product may run in TF32.
    """
    total = weights.sum(2).clamp(min=torch.finfo(weights.dtype).tiny)
    shift = (weights * (values.unsqueeze(1) - own.unsqueeze(2))).sum(2) / total
    return own + shift, shares.sum(2) / total
