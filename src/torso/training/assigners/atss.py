"""ATSS: the threshold of each ground truth comes from its own candidates (Zhang et al. 2020, arXiv 1912.02424)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from torso.bounds import Positive
from torso.data.targets import Targets
from torso.geometry.boxes import aligned_overlap
from torso.training.assigners._base import CHUNK, Assigner, boxes_to_match, matchable, with_a_row
from torso.training.assigners._claims import strongest_claim
from torso.training.assigners.fcos import centerness
from torso.training.assignment import BACKGROUND, Assignment
from torso.types import Priors


class ATSSAssigner(Assigner):
    """Per level the `candidates` priors nearest to a target's centre; positive where the IoU reaches their mean plus
    standard deviation (unbiased, as in the authors' code) and the prior's centre lies inside the target.

    A prior that answers for several targets learns the one that it overlaps most. quality is centerness, which the
    paper trains beside the class as FCOS does.

    candidates: two at least, so that they have a deviation.
    point_scale: side, in strides, of the box that stands for a point (heads without anchors); the paper's anchor has 8.
    """

    gives_quality = True
    centers_inside = True

    def __init__(self, *, candidates: Annotated[int, Interval(ge=2)] = 9, point_scale: Positive = 8.0) -> None:
        self.candidates, self.point_scale = candidates, point_scale

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment:
        targets = with_a_row(targets)
        may = matchable(targets)  # [B, M]
        rows = self._nearest(priors, targets.boxes)  # [B, M, c]
        b, m, c = rows.shape
        anchors = boxes_to_match(priors, self.point_scale)[rows]
        iou = aligned_overlap(anchors, targets.boxes[:, :, None].expand(b, m, c, 4), "iou")
        threshold = iou.mean(-1, keepdim=True) + iou.std(-1, keepdim=True)
        center = priors.centers_xy[rows]  # [B, M, c, 2]
        to_sides = torch.cat([center - targets.boxes[:, :, None, :2], targets.boxes[:, :, None, 2:] - center], -1)
        positive = (iou >= threshold) & (to_sides.amin(-1) > 0.01) & may[..., None]
        target, best = strongest_claim(rows, torch.where(positive, iou, -1.0), priors.centers_xy.shape[0])
        matched = targets.boxes.gather(1, target.clamp(min=0)[..., None].expand(-1, -1, 4))
        quality = torch.where(best >= 0, centerness(priors.centers_xy, matched), 0.0)
        return Assignment(torch.where(best >= 0, target, BACKGROUND), quality)

    def _nearest(self, priors: Priors, boxes: Tensor) -> Tensor:
        """Rows [B, M, c] of the nearest priors, `candidates` a level (all of a level that has fewer)."""
        centers = (boxes[..., :2] + boxes[..., 2:]) / 2
        picked, start = [], 0
        for size in priors.level_sizes:
            points = priors.centers_xy[start : start + size]
            parts = [centers[:, i : i + CHUNK] for i in range(0, centers.shape[1], CHUNK)]
            picked.append(torch.cat([self._nearest_points(c, points) for c in parts], dim=1) + start)
            start += size
        return torch.cat(picked, dim=2)

    def _nearest_points(self, centers: Tensor, points: Tensor) -> Tensor:
        """Rows [B, m, c] of the points [n, 2] nearest to centres [B, m, 2]."""
        distance = (centers[:, :, None] - points).square().sum(-1)  # [B, m, n]
        return distance.topk(min(self.candidates, points.shape[0]), dim=2, largest=False).indices
