"""Which truth each cell of YOLOv1's grid learns, and which of the cell's boxes learns it (arXiv 1506.02640)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.boxes import aligned_overlap, xyxy_to_cxcywh
from torso.training.assigners._base import matchable, with_a_row
from torso.types import Priors


class Cells(NamedTuple):
    """What each of G cells learns: filled [B, G] bool, boxes [B, G, 4] and label [B, G] (anything where not filled)."""

    filled: Tensor
    boxes: Tensor
    label: Tensor

    def truth(self, priors: Priors) -> Tensor:
        """[B, N, 4]: the truth of each box's cell; the prior itself where there is none, so that codes are finite."""
        boxes_a_cell = priors.levels[0][2]
        truth = self.boxes.repeat_interleave(boxes_a_cell, dim=1)
        filled = self.filled.repeat_interleave(boxes_a_cell, dim=1)
        return torch.where(filled[..., None], truth, priors.boxes)


def cells_of(priors: Priors, targets: Targets) -> Cells:
    """Each cell's first truth, in the order of Targets; a centre on the picture's last edge is in the last cell."""
    (rows, columns, _), targets = priors.levels[0], with_a_row(targets)
    center = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2
    place = (center / priors.strides_xy[0]).nan_to_num().long()
    cell = place[..., 1].clamp(0, rows - 1) * columns + place[..., 0].clamp(0, columns - 1)
    number = targets.boxes.shape[1]
    order = torch.where(matchable(targets), torch.arange(number, device=cell.device), number)
    first = torch.full((cell.shape[0], rows * columns), number, device=cell.device)
    first = first.scatter_reduce(1, cell, order, "amin")
    filled = first < number
    row = torch.where(filled, first, 0)
    boxes = targets.boxes.gather(1, row[..., None].expand(-1, -1, 4))
    label = torch.where(filled, targets.labels.gather(1, row), 0)
    return Cells(filled, boxes, label)


def responsible(boxes: Tensor, priors: Priors, cells: Cells) -> tuple[Tensor, Tensor]:
    """IoU [B, N] of boxes with their cell's truth, and which of them learns it: one in each filled cell."""
    boxes_a_cell = priors.levels[0][2]
    truth = cells.truth(priors)
    iou = aligned_overlap(boxes, truth, "iou")
    share = priors.sizes_wh.repeat(1, 2)
    far = ((xyxy_to_cxcywh(boxes) - xyxy_to_cxcywh(truth)) / share).square().sum(-1)
    by_cell = iou.reshape(iou.shape[0], -1, boxes_a_cell)
    overlaps = (by_cell > 0).any(-1)
    nearest = far.reshape(by_cell.shape).argmin(-1)
    best = torch.where(overlaps, by_cell.argmax(-1), nearest)
    chosen = F.one_hot(best, boxes_a_cell).bool() & cells.filled[..., None]
    return iou, chosen.flatten(1)
