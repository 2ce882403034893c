"""YOLOv3's rule: the anchor of the best shape, at the object's cell (arXiv 1804.02767; YOLOv4's too, 2004.10934)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.bounds import BelowOne, Fraction
from torso.data.targets import Targets
from torso.geometry.boxes import iou_matrix
from torso.heads.dense import DenseHead
from torso.training.assigners._base import CHUNK, Assigner, Missing, matchable
from torso.training.assigners._cells import missing_shapes, shape_iou, shapes_of
from torso.training.assignment import BACKGROUND, IGNORED, Assignment
from torso.types import Priors


class YOLOv3Assigner(Assigner):
    """Of the anchors of all levels the one whose shape fits a target best, both centred alike, is positive in the cell
    of that level that holds the target's centre. Other priors whose box, as predicted now, overlaps any target by more
    than `ignore_above` are ignored; the rest is background. Of several targets of one prior the last has it (darknet).

    Args:
        ignore_above: darknet 0.7, the paper 0.5.
        extra_iou: besides the best, every anchor whose shape fits better than this is positive too (YOLOv4 0.213).
    """

    needs_predictions = True
    needs_grid = True
    at_cell = True

    def __init__(self, *, ignore_above: Fraction = 0.7, extra_iou: BelowOne | None = None) -> None:
        self.ignore_above, self.extra_iou = ignore_above, extra_iou

    def missing(self, head: DenseHead) -> list[Missing]:
        return missing_shapes(head)

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment:
        if boxes is None:
            raise ValueError(f"{type(self).__name__} needs the predicted boxes; pass boxes [B, N, 4]")
        shapes, may = shapes_of(priors), matchable(targets)
        target_boxes = targets.boxes.to(priors.sizes_wh)
        fit = shape_iou((target_boxes[..., 2:] - target_boxes[..., :2])[:, :, None], shapes.sizes_wh)  # [B, M, S]
        chosen = torch.arange(fit.shape[2], device=fit.device) == fit.argmax(-1, keepdim=True)
        if self.extra_iou is not None:
            chosen = chosen | (fit > self.extra_iou)
        rows = shapes.rows(*shapes.cells(target_boxes[..., :2] / 2 + target_boxes[..., 2:] / 2))
        claims = torch.arange(may.shape[1], device=may.device)[None, :, None]
        claims = torch.where(chosen & may[..., None], claims, BACKGROUND)
        target = torch.full(boxes.shape[:2], BACKGROUND, device=may.device)
        target = target.scatter_reduce(1, rows.flatten(1), claims.flatten(1), "amax")
        found = best_iou(boxes, targets, may) > self.ignore_above
        return Assignment(torch.where((target < 0) & found, IGNORED, target))


def best_iou(boxes: Tensor, targets: Targets, may: Tensor) -> Tensor:
    """[B, N]: each box's highest IoU with the targets that may match, 0 without any."""
    best = torch.zeros(boxes.shape[:2], device=boxes.device)
    for start in range(0, may.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        iou = torch.where(may[:, None, part], iou_matrix(boxes, targets.boxes[:, part]), 0.0)
        best = torch.maximum(best, iou.amax(dim=2))
    return best
