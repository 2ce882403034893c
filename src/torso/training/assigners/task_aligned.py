"""Task-aligned assignment: the priors that both score and fit a ground truth best (TOOD, arXiv 2108.07755)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from torso.bounds import Count, NotNegative
from torso.data.targets import Targets
from torso.geometry.boxes import OverlapKind, overlap_matrix
from torso.parts import PartError
from torso.training.assigners._base import CHUNK, Assigner, matchable, with_a_row
from torso.training.assigners._claims import depth_inside, scores_of, strongest_claim
from torso.training.assignment import BACKGROUND, Assignment
from torso.types import Priors

Competing = Literal["all", "inside"]
_TINY = torch.finfo(torch.float32).tiny


class TaskAlignedAssigner(Assigner):
    """alignment = score^alpha * IoU^beta of the target's class; its `top` best priors are positive where their centre
    lies inside the target. A prior that several targets claim learns the one it overlaps most. quality is the
    alignment, scaled for each target so that its best prior has the IoU of its best fitting one;
    the class should score that.

    Args:
        alpha, beta, top: TOOD 1, 6, 13; the YOLO line's later heads 0.5, 6, 10.
        compete: "all" priors for the places among the best, of which those outside are dropped (TOOD), or only those
            "inside" (the later heads).
        overlap: "iou", or another of the family, as far as it is positive.
        margin: px by which a centre must be inside.
        guard: is added to the best alignment that a target's are divided by. TOOD's authors 1e-7, which leaves a target
            that no box overlaps by a tenth without a target worth learning (IoU^6 is below it); 0 divides as written.
    """

    needs_predictions = True
    gives_quality = True
    quality_is_score = True
    centers_inside = True
    needs_grid = True

    def __init__(
        self,
        *,
        alpha: NotNegative = 1.0,
        beta: NotNegative = 6.0,
        top: Count = 13,
        compete: Competing = "all",
        overlap: OverlapKind = "iou",
        margin: NotNegative = 0.01,
        guard: NotNegative = 1e-7,
    ) -> None:
        if alpha == beta == 0:
            raise PartError("TaskAlignedAssigner: expected alpha or beta above 0, got 0 for both")
        self.alpha, self.beta, self.top = alpha, beta, top
        self.compete, self.overlap, self.margin, self.guard = compete, overlap, margin, guard

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment:
        if boxes is None or scores is None:
            raise ValueError("TaskAligned needs predictions; pass boxes [B, N, 4] and scores [B, N, K]")
        targets = with_a_row(targets)
        claims = []
        for start in range(0, targets.boxes.shape[1], CHUNK):
            claims.append(self._claims(priors, targets.narrow(start, CHUNK), boxes, scores))
        rows, metric, fit = (torch.cat(x, dim=1) for x in zip(*claims, strict=True))  # [B, M, top]
        target, best = strongest_claim(rows, torch.where(metric > 0, fit, -1.0), boxes.shape[1])
        own = torch.arange(rows.shape[1], device=rows.device)[:, None]
        kept = (target.gather(1, rows.flatten(1)).view_as(rows) == own) & (metric > 0)
        metric, fit = torch.where(kept, metric, 0.0), torch.where(kept, fit, 0.0)
        best_metric = (metric.amax(-1, keepdim=True) + self.guard).clamp(min=_TINY)
        scaled = metric / best_metric * fit.amax(-1, keepdim=True)
        quality = torch.zeros_like(best).scatter_reduce(1, rows.flatten(1), scaled.flatten(1), "amax")
        return Assignment(torch.where(target >= 0, target, BACKGROUND), quality)

    def _claims(self, priors: Priors, targets: Targets, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each target's best priors: rows, alignment (0 where they do not count), overlap, [B, m, top]."""
        fit = overlap_matrix(boxes, targets.boxes, self.overlap).clamp(min=0)  # [B, N, m]
        metric = scores_of(scores.float(), targets.labels) ** self.alpha * fit**self.beta
        may = matchable(targets)[:, None]
        inside = depth_inside(priors, targets.boxes) > self.margin
        metric = torch.where(may & inside if self.compete == "inside" else may, metric, 0.0)
        best = metric.topk(min(self.top, metric.shape[1]), dim=1)
        counts = (best.values > 0) & inside.gather(1, best.indices)
        values = torch.where(counts, best.values, 0.0)
        return best.indices.mT, values.mT, fit.gather(1, best.indices).mT
