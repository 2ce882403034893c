"""Maximum IoU: positive above a threshold, background below another, ignored between (arXiv 1506.01497, 1708.02002)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.geometry.boxes import iou_matrix
from torso.parts import PartError
from torso.training.assigners._base import CHUNK, Assigner, matchable
from torso.training.targets import BACKGROUND, IGNORED, Assignment, Targets
from torso.types import Priors


class MaxIoU(Assigner):
    """A prior learns the ground truth that it overlaps most, the first of equals.

    Args:
        positive: IoU at or above it is positive.
        negative: IoU below it is background; between the two a prior is ignored.
        rescue: every prior tied for a ground truth's best IoU becomes positive, however low, if that IoU is at least
            rescue_above and above 0. It learns the ground truth that it overlaps most itself (torchvision, detectron2),
            not the one whose best it is (mmdet): the two differ only where it is best for a lesser one.

    A rescue at IoU 0 is refused: torchvision makes every prior positive for a truth that no prior touches.
    """

    def __init__(
        self, *, positive: float = 0.5, negative: float = 0.4, rescue: bool = True, rescue_above: float = 0.0
    ) -> None:
        if not 0 <= negative <= positive <= 1:
            raise PartError(f"MaxIoU wants 0 <= negative <= positive <= 1; {negative} and {positive} came")
        self.positive, self.negative = positive, negative
        self.rescue, self.rescue_above = rescue, rescue_above

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment:
        anchors = priors.boxes if priors.boxes.dim() == 3 else priors.boxes[None]  # [B or 1, N, 4]
        best, target, rescued = self._match(anchors, targets)
        out = torch.where(best >= self.positive, target, IGNORED)
        out = torch.where(best < self.negative, BACKGROUND, out)
        return Assignment(torch.where(rescued, target, out))

    def _match(self, anchors: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """Best IoU [B, N], its row [B, N], and whether a ground truth would be lost without the prior [B, N]."""
        may = matchable(targets)
        best = target = rescued = None
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
                wanted = ((iou == top) & (top > 0) & (top >= self.rescue_above)).any(dim=2)
                rescued = wanted if rescued is None else rescued | wanted
        assert best is not None
        assert target is not None
        return best, target, torch.zeros_like(best, dtype=torch.bool) if rescued is None else rescued
