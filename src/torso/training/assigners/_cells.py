"""The anchor shapes of a head at a location, and the level and cell in which a ground truth lies: the YOLO rules."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torso.geometry.boxes import MIN_AREA
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.training.assigners._base import Missing
from torso.types import Priors


class Shapes(NamedTuple):
    """The S anchor shapes of all levels: sizes_wh, strides_xy [S, 2]; and, as int64 [S], of the level that each belongs
    to: first row of the shape at location (0, 0), width, height, shapes a location.
    """

    sizes_wh: Tensor
    strides_xy: Tensor
    row: Tensor
    width: Tensor
    height: Tensor
    per_location: Tensor

    def rows(self, cell_x: Tensor, cell_y: Tensor) -> Tensor:
        """The prior of each shape [..., S] in these cells [..., S]."""
        return self.row + (cell_y * self.width + cell_x) * self.per_location

    def cells(self, centers_xy: Tensor) -> tuple[Tensor, Tensor]:
        """Column and row [..., S] in each shape's level of centres [..., 2], kept inside the maps."""
        place = (centers_xy[..., None, :] / self.strides_xy).floor().long()
        zero = torch.zeros_like(self.width)
        return place[..., 0].clamp(zero, self.width - 1), place[..., 1].clamp(zero, self.height - 1)


def shapes_of(priors: Priors) -> Shapes:
    """The shapes at the first location of each level stand for all its locations."""
    device = priors.centers_xy.device
    rows, columns = [], []
    start = 0
    for (h, w, a), size in zip(priors.levels, priors.level_sizes, strict=True):
        rows.append(torch.arange(start, start + a, device=device))
        columns.append(torch.stack([torch.full((a,), v, device=device) for v in (w, h, a)]))
        start += size
    row, (width, height, per_location) = torch.cat(rows), torch.cat(columns, dim=1).unbind()
    return Shapes(priors.sizes_wh[row], priors.strides_xy[row], row, width, height, per_location)


def shape_iou(a_wh: Tensor, b_wh: Tensor) -> Tensor:
    """IoU [...] of boxes about one centre, from sizes [..., 2]."""
    shared = torch.minimum(a_wh, b_wh).clamp(min=0).prod(-1)
    union = a_wh.clamp(min=0).prod(-1) + b_wh.prod(-1) - shared
    return shared / union.clamp(min=MIN_AREA)


def missing_shapes(head: DenseHead) -> list[Missing]:
    """Of a head that has points: their one shape, the stride, says nothing of an object's."""
    if not isinstance(head.priors, Points):
        return []
    return [Missing("chooses a prior by its shape, but this head's priors are points", {"head.priors": "anchors"})]
