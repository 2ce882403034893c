"""SSD: each ground truth's best prior, and every prior above a threshold (Liu et al. 2016, arXiv 1512.02325)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.bounds import Fraction, Positive
from torso.data.targets import Targets
from torso.geometry.boxes import iou_matrix
from torso.training.assigners._base import CHUNK, Assigner, boxes_to_match, matchable
from torso.training.assignment import BACKGROUND, Assignment
from torso.types import Priors


class SSDAssigner(Assigner):
    """A prior learns the target that it overlaps most where the IoU reaches `threshold`, the first of equals; all
    others are background, none is ignored. Then the best prior of each target (the first of equals) learns that target,
    whatever it overlaps more; of several targets with one best prior the last gets it, as in torchvision and
    mmdetection, where MultiBox's matching would look for other priors.

    point_scale: side, in strides, of the box that stands for a point (heads without anchors).
    """

    def __init__(self, *, threshold: Fraction = 0.5, point_scale: Positive = 8.0) -> None:
        self.threshold, self.point_scale = threshold, point_scale

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment:
        anchors = boxes_to_match(priors, self.point_scale)
        anchors = anchors if anchors.dim() == 3 else anchors[None]  # [B or 1, N, 4]
        may = matchable(targets)
        b, n = may.shape[0], anchors.shape[1]
        best = torch.full((b, n), -1.0, device=may.device)
        target = torch.full((b, n), BACKGROUND, device=may.device)
        forced = target
        for start in range(0, may.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            iou = torch.where(may[:, None, part], iou_matrix(anchors, targets.boxes[:, part]), -1.0)  # [B, N, m]
            value, row = iou.max(dim=2)
            target = torch.where(value > best, row + start, target)
            best = torch.maximum(best, value)
            top, place = iou.max(dim=1)  # [B, m]
            rows = torch.arange(start, start + top.shape[1], device=may.device).expand_as(place)
            claims = torch.where(top > 0, rows, BACKGROUND)  # a target that no prior touches forces none
            forced = forced.scatter_reduce(1, place, claims, "amax")
        target = torch.where(best >= self.threshold, target, BACKGROUND)
        return Assignment(torch.where(forced >= 0, forced, target))
