"""Maximum IoU: positive above a threshold, background below another, ignored between (arXiv 1506.01497, 1708.02002)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from torso.bounds import Positive, Probability
from torso.data.targets import Targets
from torso.geometry.boxes import iou_matrix
from torso.plain_values import check_rising
from torso.training.assigners._base import CHUNK, Assigner, boxes_to_match, matchable, with_a_row
from torso.training.assignment import BACKGROUND, IGNORED, Assignment
from torso.types import Priors

RescueLearns = Literal["most", "rescued"]


class MaxIoUAssigner(Assigner):
    """A prior learns the ground truth that it overlaps most, the first of equals.

    Args:
        positive: IoU at or above it is positive.
        negative: IoU below it is background; between the two a prior is ignored.
        rescue: every prior tied for a ground truth's best IoU becomes positive, however low, if that IoU is at least
            rescue_above and above 0.
        rescue_learns: what such a prior learns where it is best for one ground truth and overlaps another more: "most"
            the one that it overlaps most (torchvision, detectron2), "rescued" the one whose best it is, of several the
            last (mmdetection).
        point_scale: side, in strides, of the box that stands for a point (heads without anchors).

    A rescue at IoU 0 is refused: torchvision makes every prior positive for a target that no prior touches.
    """

    def __init__(
        self,
        *,
        positive: Probability = 0.5,
        negative: Probability = 0.4,
        rescue: bool = True,
        rescue_above: Probability = 0.0,
        rescue_learns: RescueLearns = "most",
        point_scale: Positive = 8.0,
    ) -> None:
        check_rising(type(self).__name__, negative=negative, positive=positive)
        self.positive, self.negative, self.point_scale = positive, negative, point_scale
        self.rescue, self.rescue_above, self.rescue_learns = rescue, rescue_above, rescue_learns

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment:
        targets = with_a_row(targets)
        anchors = boxes_to_match(priors, self.point_scale)
        anchors = anchors if anchors.dim() == 3 else anchors[None]  # [B or 1, N, 4]
        best, target, rescued = self._match(anchors, targets)
        out = torch.where(best >= self.positive, target, IGNORED)
        out = torch.where(best < self.negative, BACKGROUND, out)
        return Assignment(torch.where(rescued >= 0, rescued if self.rescue_learns == "rescued" else target, out))

    def _match(self, anchors: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """Best IoU [B, N], its row [B, N], and the last ground truth that would be lost without the prior, or -1."""
        may = matchable(targets)
        best = target = rescued = None
        rows = torch.arange(targets.boxes.shape[1], device=targets.boxes.device)
        for start in range(0, targets.boxes.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            iou = torch.where(may[:, None, part], iou_matrix(anchors, targets.boxes[:, part]), -1.0)  # [B, N, m]
            value, row = iou.max(dim=2)
            if best is None or target is None:
                best, target = value, row
            else:
                target = torch.where(value > best, row + start, target)
                best = torch.maximum(best, value)
            if self.rescue:
                top = iou.amax(dim=1, keepdim=True)  # [B, 1, m]
                wanted = (iou == top) & (top > 0) & (top >= self.rescue_above)
                last = torch.where(wanted, rows[part], -1).amax(dim=2)
                rescued = last if rescued is None else torch.maximum(rescued, last)
        assert best is not None
        assert target is not None
        return best, target, torch.full_like(target, -1) if rescued is None else rescued
