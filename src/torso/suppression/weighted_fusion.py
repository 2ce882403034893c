"""Weighted box fusion (Solovyev et al., 1910.13302): boxes of one object become their mean, weighted by score."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from torso.bounds import BelowOne, Count
from torso.geometry.overlaps import Overlap, PairOverlap
from torso.kernels.fuse import cluster_rows
from torso.kernels.rule import comparison
from torso.suppression._base import Limits, Suppression
from torso.types import Candidates

FusedScore = Literal["mean", "max"]


class WeightedFusion(Suppression):
    """Merges where others drop: each row joins the cluster whose fused box it overlaps most, or founds one.

    iou_threshold: a row joins when the overlap is above it (inclusive: as much or more). score: of a cluster, the
    "mean" of its rows' or their "max". sources: how many views (models, flips) the rows come from; a cluster of n rows
    has its score times min(n, sources) / sources, so that what only one of several views has seen counts less; 1 leaves
    scores alone. The mean is drawn down by weak rows: give a score_threshold. A fused row keeps the index of its best
    row; its variance is the mean of its rows', weighted alike. overlap: "iou", "giou", "diou", or an Overlap; one that
    goes by index (masks) compares a row with the cluster's founder, not with the fused object. Rows are taken one by
    one, so that pre_nms_top is 1,000 unless set otherwise.
    """

    def __init__(
        self,
        *,
        iou_threshold: float = 0.55,
        score: FusedScore = "mean",
        sources: Count = 1,
        inclusive: bool = False,
        overlap: PairOverlap | Overlap = "iou",
        class_agnostic: bool = False,
        max_detections: Count = 100,
        max_per_class: Count | None = None,
        pre_nms_top: Count | None = 1000,
        pre_nms_top_per_class: Count | None = None,
        score_threshold: BelowOne = 0.0,
    ) -> None:
        super().__init__(
            Limits(max_detections, max_per_class, pre_nms_top, pre_nms_top_per_class, score_threshold, class_agnostic)
        )
        self.score, self.sources = score, sources
        self.test = comparison(overlap, iou_threshold, inclusive=inclusive)

    def __call__(self, candidates: Candidates) -> Candidates:
        """Candidates [B, T, ...] in any order to [B, max_detections, ...], best first, float32."""
        rows = self.ranked(candidates)
        fused = self._fused(rows, cluster_rows(rows, self.groups(rows), self.test))
        scores, order = fused.scores.sort(dim=1, descending=True, stable=True)
        return self.best(fused.take(order), scores > 0)

    def _fused(self, rows: Candidates, founders: Tensor) -> Candidates:
        """Clusters in the rows of their founders, [B, T]; all other rows have score 0."""
        scores = rows.scores
        ones = (scores > 0).to(scores)
        mass, count = _sums(scores, founders), _sums(ones, founders)
        least = mass.clamp(min=torch.finfo(mass.dtype).tiny).unsqueeze(-1)
        # distances to the founder's box: sums of large coordinates would round pixels away
        home = _rows_at(rows.boxes, founders)
        boxes = rows.boxes + _sums((rows.boxes - home) * scores.unsqueeze(-1), founders) / least
        variance = rows.variance
        if variance is not None:
            variance = _sums(variance.float() * scores.unsqueeze(-1), founders) / least
        merged = scores if self.score == "max" else mass / count.clamp(min=1.0)
        merged = merged * count.clamp(max=float(self.sources)) / self.sources
        return rows.changed(boxes=boxes, scores=merged.where(count > 0, 0.0), variance=variance)


def _sums(values: Tensor, founders: Tensor) -> Tensor:
    """[B, T, ...]: the values of each cluster added up in its founder's row, 0 in the others."""
    index = founders if values.dim() == 2 else founders.unsqueeze(-1).expand_as(values)
    total = values.new_zeros((values.shape[0], values.shape[1] + 1, *values.shape[2:]))
    return total.scatter_add(1, index, values)[:, :-1]


def _rows_at(values: Tensor, founders: Tensor) -> Tensor:
    """[B, T, 4]: each row's founder's values; its own for an empty row."""
    numbers = torch.arange(founders.shape[1], device=founders.device)
    index = founders.where(founders < founders.shape[1], numbers)
    return values.gather(1, index.unsqueeze(-1).expand_as(values))
