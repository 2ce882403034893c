"""The criterion of YOLOv1: one sum of squared errors over cells (Redmon et al. 2015, arXiv 1506.02640, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.data.targets import Targets
from torso.errors import mismatch
from torso.geometry.boxes import aligned_overlap, xyxy_to_cxcywh
from torso.heads.grid import GridHead
from torso.models.detector import Detector
from torso.training.assigners._base import matchable, with_a_row
from torso.training.criteria._base import Criterion, Terms, TermSum
from torso.types import GridPredictions, Images, Priors


class GridCriterion(Criterion):
    """loss = cls + box + objectness, each a sum of squared errors divided by the images of the effective batch.

    A cell learns the first target whose centre it holds: its class vector, and the one of its boxes that fits best now,
    by IoU, or where none overlaps by the distance of their coordinates (darknet). That box's confidence learns its IoU,
    all others 0.

    Args:
        box_weight, background_weight, object_weight, cls_weight: the paper's 5 and 0.5, and darknet's names for the
            ones; of the box term, of confidences without and with an object, of the class vectors.
    """

    reads = GridPredictions
    fixed = MappingProxyType(
        {
            "assigner": "YOLOv1's cells are responsible by construction, each for the target whose centre it holds",
            "cls_loss": "YOLOv1's loss is one sum of squared errors, its class term too",
            "box_loss": "YOLOv1's loss is one sum of squared errors, its box term too",
            "sampler": "every cell of YOLOv1 counts, empty ones with less weight",
        }
    )

    def __init__(
        self,
        *,
        box_weight: float = 5.0,
        background_weight: float = 0.5,
        object_weight: float = 1.0,
        cls_weight: float = 1.0,
    ) -> None:
        super().__init__()
        weights = (box_weight, background_weight, object_weight, cls_weight)
        if min(weights) < 0:
            raise mismatch("the weights of GridCriterion", "0 or more each", weights)
        self.box_weight, self.background_weight, self.object_weight, self.cls_weight = weights

    def forward(self, model: Detector, images: Images, targets: Targets) -> Terms:
        head, raw = model.head, model(images)
        assert isinstance(head, GridHead)
        return self.terms(raw, targets, head)

    @property
    def counts_need_predictions(self) -> bool:
        return False

    @torch.no_grad()
    def counts(
        self, model: Detector, images: Images, targets: Targets, sizes_hw: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        return dict.fromkeys(("cls", "box", "objectness"), _images(targets))

    def terms(self, raw: GridPredictions, targets: Targets, head: GridHead) -> Terms:
        """The terms of one prediction."""
        codes = raw.codes.float()
        with torch.no_grad():
            cells = _cells_of(raw.priors, targets)
            iou, chosen = _responsible(head.coder.decode(codes, raw.priors), raw.priors, cells)
            wanted = head.coder.encode(cells.target_boxes(raw.priors), raw.priors)
            count = _images(targets)
        off = (codes - wanted).square().sum(-1)
        box = torch.where(chosen, off, 0.0).sum() * self.box_weight
        confidence = (raw.confidences.float() - torch.where(chosen, iou, 0.0)).square()
        objectness = (confidence * torch.where(chosen, self.object_weight, self.background_weight)).sum()
        labels = F.one_hot(cells.label, head.num_classes).to(codes)
        wrong = (raw.scores.float() - labels).square().sum(-1)
        cls = torch.where(cells.filled, wrong, 0.0).sum() * self.cls_weight
        return {"cls": TermSum(cls, count), "box": TermSum(box, count), "objectness": TermSum(objectness, count)}


class _Cells(NamedTuple):
    """What each of G cells learns: filled [B, G] bool, boxes [B, G, 4] and label [B, G] (anything where not filled)."""

    filled: Tensor
    boxes: Tensor
    label: Tensor

    def target_boxes(self, priors: Priors) -> Tensor:
        """[B, N, 4]: the target of each box's cell; the prior itself where there is none, so that codes are finite."""
        boxes_a_cell = priors.levels[0][2]
        target_boxes = self.boxes.repeat_interleave(boxes_a_cell, dim=1)
        filled = self.filled.repeat_interleave(boxes_a_cell, dim=1)
        return torch.where(filled[..., None], target_boxes, priors.boxes)


def _cells_of(priors: Priors, targets: Targets) -> _Cells:
    """Each cell's first target, in the order of Targets; a centre on the image's last edge is in the last cell."""
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
    return _Cells(filled, boxes, label)


def _responsible(boxes: Tensor, priors: Priors, cells: _Cells) -> tuple[Tensor, Tensor]:
    """IoU [B, N] of boxes with their cell's target, and which of them learns it: one in each filled cell."""
    boxes_a_cell = priors.levels[0][2]
    target_boxes = cells.target_boxes(priors)
    iou = aligned_overlap(boxes, target_boxes, "iou")
    share = priors.sizes_wh.repeat(1, 2)
    far = ((xyxy_to_cxcywh(boxes) - xyxy_to_cxcywh(target_boxes)) / share).square().sum(-1)
    by_cell = iou.reshape(iou.shape[0], -1, boxes_a_cell)
    overlaps = (by_cell > 0).any(-1)
    nearest = far.reshape(by_cell.shape).argmin(-1)
    best = torch.where(overlaps, by_cell.argmax(-1), nearest)
    chosen = F.one_hot(best, boxes_a_cell).bool() & cells.filled[..., None]
    return iou, chosen.flatten(1)


def _images(targets: Targets) -> Tensor:
    return torch.full((), float(targets.boxes.shape[0]), device=targets.boxes.device)
