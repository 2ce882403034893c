"""Matrix NMS (SOLOv2, 2003.10152): Soft-NMS's lowering of scores in one step, from the matrix of overlaps alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from torso.bounds import BelowOne, Count, Positive
from torso.geometry.overlaps import Overlap, PairOverlap
from torso.kernels.rule import overlap_of
from torso.layers.compiling import is_exporting
from torso.suppression._base import Limits, Suppression
from torso.types import Candidates

MatrixMethod = Literal["linear", "gaussian"]
_BLOCK = 2**26  # pairs at once: 256 MB of float32


class MatrixNMS(Suppression):
    """Every score times min over better rows i of f(overlap with i) / f(overlap of i with its own best better row).

    The denominator lessens what a row that has itself been covered can do. method: f is 1 - overlap ("linear") or
    exp(-sigma overlap^2) ("gaussian"; sigma multiplies, where Soft-NMS's divides). min_score: rows that fall below it
    are dropped (SOLOv2 has 0.05). overlap: "iou", "giou", "diou", or an Overlap; below 0 it counts as 0. Work grows
    with rows squared, so that pre_nms_top is 1,000 unless set otherwise (SOLOv2: 500). Rows may change places.
    """

    def __init__(
        self,
        *,
        method: MatrixMethod = "gaussian",
        sigma: Positive = 2.0,
        min_score: BelowOne = 1e-3,
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
        self.method, self.sigma, self.min_score = method, sigma, min_score
        self.overlap = overlap_of(overlap)

    def __call__(self, candidates: Candidates) -> Candidates:
        """Candidates [B, T, ...] in any order to [B, max_detections, ...], best first, float32."""
        rows = self.ranked(candidates)
        scores = rows.scores * self._decay(rows)
        scores, order = scores.where(scores >= self.min_score, 0.0).sort(dim=1, descending=True, stable=True)
        return self.best(rows.take(order).changed(scores=scores), scores > 0)

    def _decay(self, rows: Candidates) -> Tensor:
        """[B, T] in 0..1, of rows that are best first."""
        batch, total = rows.scores.shape
        step = max(1, total if is_exporting() else _BLOCK // max(1, batch * total))
        starts = range(0, total, step) if total else ()
        whole = self._pairs(rows, 0, total) if len(starts) == 1 else None

        def block(start: int) -> Tensor:
            return self._pairs(rows, start, step) if whole is None else whole

        covered = [block(start).amax(dim=1) for start in starts]  # of columns, by better rows
        if not covered:
            return rows.scores
        compensation = self._log_f(torch.cat(covered, dim=1)).unsqueeze(2)
        # both may be -inf, of a row that is covered in full: it has no say
        logs = [(self._log_f(block(start)) - compensation).nan_to_num(nan=0.0).amin(dim=1) for start in starts]
        return torch.cat(logs, dim=1).clamp(max=0.0).exp()

    def _pairs(self, rows: Candidates, start: int, step: int) -> Tensor:
        """[B, T, S]: overlap of every better row with the S rows from start; 0 for any other pair."""
        columns = rows.narrow(start, step)
        overlaps = self.overlap(rows, columns).clamp(min=0.0, max=1.0)
        pairs = (rows.scores > 0).unsqueeze(2) & (columns.scores > 0).unsqueeze(1)
        own, others = self.groups(rows), self.groups(columns)
        if own is not None and others is not None:
            pairs = pairs & (own.unsqueeze(2) == others.unsqueeze(1))
        return overlaps.where(pairs, 0.0).triu(diagonal=1 - start)

    def _log_f(self, overlap: Tensor) -> Tensor:
        """A quotient of f is a difference of these; f may be 0, where a row covers another in full."""
        return -self.sigma * overlap**2 if self.method == "gaussian" else torch.log1p(-overlap)
