"""SimOTA: each ground truth takes as many of the cheapest priors as its boxes fit (YOLOX, arXiv 2107.08430)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from torso.bounds import Count, NotNegative, Positive
from torso.data.targets import Targets
from torso.geometry.boxes import aligned_overlap, iou_matrix
from torso.training.assigners._base import CHUNK, Assigner, matchable, with_a_row
from torso.training.assigners._claims import depth_inside, scores_of
from torso.training.assignment import BACKGROUND, Assignment
from torso.types import Priors

Inside = Literal["either", "center"]


class SimOTAAssigner(Assigner):
    """cost = class cost + iou_weight * -log IoU + 1e5 where a prior's centre is not both inside the target and near its
    centre; a target takes its k cheapest candidates, k the sum of its `candidates` highest IoUs, at least 1. A prior
    that several targets take goes to the cheapest of all. quality is the IoU, also what the class should score.

    Args:
        radius: "near" in strides. inside: a prior is a candidate where its centre lies in any target or near a target's
            centre ("either", the paper), or near one ("center", YOLOX's later code, at radius 1.5).
        cell_center: a prior stands in the middle of its cell, wherever its own centre is: YOLOX's boxes are predicted
            from the cells' corners, but assigned from their middles.
        candidates: IoUs that are summed, and the most priors that a target takes.
        cls_weight, iou_weight: of the cost. The class cost is the binary cross entropy over all classes of the square
            root of the score, which is class times objectness.
    """

    needs_predictions = True
    gives_quality = True
    quality_is_score = True
    needs_grid = True

    def __init__(
        self,
        *,
        radius: Positive = 2.5,
        inside: Inside = "either",
        cell_center: bool = True,
        candidates: Count = 10,
        cls_weight: NotNegative = 1.0,
        iou_weight: NotNegative = 3.0,
    ) -> None:
        self.radius, self.inside, self.cell_center, self.candidates = radius, inside, cell_center, candidates
        self.cls_weight, self.iou_weight = cls_weight, iou_weight

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment:
        if boxes is None or scores is None:
            raise ValueError("SimOTA needs predictions; pass boxes [B, N, 4] and scores [B, N, K]")
        targets = with_a_row(targets)
        if self.cell_center:
            cell = (priors.centers_xy / priors.strides_xy).floor()
            priors = priors._replace(centers_xy=(cell + 0.5) * priors.strides_xy)
        may = matchable(targets)
        parts = [slice(i, i + CHUNK) for i in range(0, may.shape[1], CHUNK)]
        candidate = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
        for part in parts:
            inside, near = self._where(priors, targets.boxes[:, part])
            candidate = candidate | ((inside | near) & may[:, None, part]).any(-1)
        root = scores.float().sqrt()
        absent = -((1 - root).log().clamp(min=-100)).sum(-1)  # what a prior costs where it should score nothing
        state = _Taken.none(boxes)
        for start, part in zip(range(0, may.shape[1], CHUNK), parts, strict=True):
            chunk = targets.narrow(start, CHUNK)
            cost, iou = self._cost(priors, chunk, boxes, root, absent)
            allowed = candidate[..., None] & may[:, None, part]
            cost, iou = torch.where(allowed, cost, torch.inf), torch.where(allowed, iou, 0.0)
            state = self._take(state, cost, iou, start)
        target = torch.where(state.times > 1, state.cheapest, state.owner)
        matched = targets.boxes.gather(1, target.clamp(min=0)[..., None].expand(-1, -1, 4))
        fit = aligned_overlap(boxes, torch.where(target[..., None] >= 0, matched, boxes), "iou")
        return Assignment(target, torch.where(target >= 0, fit, 0.0))

    def _where(self, priors: Priors, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """[B, N, m] each: the prior's centre lies inside the box; near its centre."""
        center = (boxes[..., :2] + boxes[..., 2:]) / 2
        off = (priors.centers_xy[:, None] - center[:, None]).abs()  # [B, N, m, 2]
        near = (off < self.radius * priors.strides_xy[:, None]).all(-1)
        return (near if self.inside == "center" else depth_inside(priors, boxes) > 0), near

    def _cost(
        self, priors: Priors, targets: Targets, boxes: Tensor, root: Tensor, absent: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cost and IoU of every pair, [B, N, m]."""
        iou = iou_matrix(boxes, targets.boxes)
        own = scores_of(root, targets.labels)
        entropy = absent[..., None] - own.log().clamp(min=-100) + (1 - own).log().clamp(min=-100)
        inside, near = self._where(priors, targets.boxes)
        cost = entropy * self.cls_weight - (iou + 1e-7).log() * self.iou_weight
        return cost + (~(inside & near)).to(cost) * 1e5, iou

    def _take(self, state: _Taken, cost: Tensor, iou: Tensor, start: int) -> _Taken:
        """The state after the m targets from row `start` on have taken theirs."""
        k = min(self.candidates, cost.shape[1])
        wanted = iou.topk(k, dim=1).values.sum(1).long().clamp(min=1)  # [B, m]
        best = cost.topk(k, dim=1, largest=False)  # [B, k, m]
        taken = (torch.arange(k, device=cost.device)[:, None] < wanted[:, None]) & best.values.isfinite()
        owner = torch.arange(start, start + cost.shape[2], device=cost.device).expand_as(best.indices)
        rows = best.indices.flatten(1)
        value, row = cost.min(dim=2)
        return _Taken(
            state.owner.scatter_reduce(1, rows, torch.where(taken, owner, BACKGROUND).flatten(1), "amax"),
            state.times.scatter_add(1, rows, taken.long().flatten(1)),
            torch.where(value < state.cost, row + start, state.cheapest),
            torch.minimum(value, state.cost),
        )


class _Taken(NamedTuple):
    """Of each prior, [B, N]: the last target that took it or -1, how many did, the cheapest of all, its cost."""

    owner: Tensor
    times: Tensor
    cheapest: Tensor
    cost: Tensor

    @classmethod
    def none(cls, boxes: Tensor) -> _Taken:
        owner = torch.full(boxes.shape[:2], BACKGROUND, device=boxes.device)
        return cls(owner, torch.zeros_like(owner), owner, torch.full(owner.shape, torch.inf, device=boxes.device))
