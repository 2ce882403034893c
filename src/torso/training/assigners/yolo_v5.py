"""YOLOv5's rule: anchors by the ratio of sides, three cells a target (https://github.com/ultralytics/yolov5)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.coders.yolo import YOLOCoder
from torso.heads.dense import DenseHead
from torso.training.assigners._base import Assigner, Missing, matchable
from torso.training.assigners._cells import Shapes, missing_shapes, shapes_of
from torso.training.assignment import Pairs
from torso.types import Priors


class YOLOv5Assigner(Assigner):
    """Every anchor of which neither side is `max_ratio` times the target's or more, nor the target's of it, learns the
    target in its centre's cell and in those cells beside, above and below it that the centre is within half a cell of,
    where it lies more than one cell off the map's edge on that side: three cells, and where the centre stands on a
    cell's edge the cells of both sides.

    A prior may so get several targets, and a target priors of all levels: 5 pairs a target and anchor shape.
    """

    gives_pairs = True
    needs_grid = True
    at_cell = True

    def __init__(self, *, max_ratio: Annotated[float, Interval(gt=1)] = 4.0) -> None:
        self.max_ratio = max_ratio

    def missing(self, head: DenseHead) -> list[Missing]:
        scale = head.coder.scale_xy if isinstance(head.coder, YOLOCoder) else 2.0
        if not isinstance(scale, tuple) and scale >= 2:
            return missing_shapes(head)
        reason = f"teaches a cell centres of up to half a cell beyond it, which scale_xy={scale} cannot say"
        return [*missing_shapes(head), Missing(reason, {"head.coder.scale_xy": 2})]

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Pairs:
        shapes, may = shapes_of(priors), matchable(targets)
        target_boxes = targets.boxes.to(priors.sizes_wh)
        size = (target_boxes[..., 2:] - target_boxes[..., :2])[:, :, None]
        ratio = size / shapes.sizes_wh
        # a padded row's sides may be anything: what divides by 0 or is no number does not fit
        fits = (torch.maximum(ratio, 1 / ratio).amax(-1) < self.max_ratio) & (ratio > 0).all(-1) & may[..., None]
        center = target_boxes[..., :2] / 2 + target_boxes[..., 2:] / 2
        rows, there = _cells_learnt(shapes, center)  # [B, M, S, 5]
        weight = (there & fits[..., None]).float()
        target = torch.arange(may.shape[1], device=may.device)[None, :, None, None].expand_as(rows)
        return Pairs(rows.flatten(1), target.flatten(1), weight.flatten(1))


def _cells_learnt(shapes: Shapes, center: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [B, M, S, 5] of the own cell, left, above, right, below; and which of them learn."""
    x, y = shapes.cells(center)
    at = center[:, :, None] / shapes.strides_xy  # in cells
    size = torch.stack([shapes.width, shapes.height], dim=-1)
    before = (at % 1 < 0.5) & (at > 1)
    after = ((size - at) % 1 < 0.5) & (size - at > 1)
    left, above = (x - 1).clamp(min=0), (y - 1).clamp(min=0)
    right, below = torch.minimum(x + 1, shapes.width - 1), torch.minimum(y + 1, shapes.height - 1)
    cells = [(x, y), (left, y), (x, above), (right, y), (x, below)]
    rows = torch.stack([shapes.rows(*cell) for cell in cells], dim=-1)
    return rows, torch.cat([torch.ones_like(before[..., :1]), before, after], dim=-1)
