"""Heatmap targets: a Gaussian bump a ground truth, as wide as a fair box may be off (CornerNet, arXiv 1808.01244)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from torso.bounds import Share
from torso.data.targets import Targets
from torso.plain_values import Checked
from torso.training.assigners._base import CHUNK, matchable
from torso.training.assignment import HeatmapTargets, Pairs
from torso.types import Priors

SharedCell = Literal["all", "last"]


class GaussianAssigner(Checked):
    """The centre's cell is 1; around it exp(-d^2 / 2 sigma^2) within a square of `radius`, sigma = (2 radius + 1) / 6;
    of overlapping bumps of one class the higher value counts.

    Args:
        min_overlap: the radius is the largest shift of both corners that leaves this IoU, in cells, by the least of
            three cases (CenterNet 0.7, mmdetection's CenterNet 0.3).
        integer_radius: the radius rounded down to whole cells, as in the published codes.
        shared_cell: where centres of several objects fall into one cell, "all" of them are learnt there (the authors'
            code), or only the "last" row (mmdetection, which overwrites).

    For heads with one level. Rows that are not valid, or are crowd, leave no trace.
    """

    def __init__(
        self,
        *,
        min_overlap: Share = 0.7,
        integer_radius: bool = True,
        shared_cell: SharedCell = "all",
    ) -> None:
        self.min_overlap, self.integer_radius, self.shared_cell = min_overlap, integer_radius, shared_cell

    def __call__(self, priors: Priors, targets: Targets, num_classes: int) -> HeatmapTargets:
        height, width, _ = priors.levels[0]
        boxes = targets.boxes.to(priors.strides_xy) / priors.strides_xy[0].repeat(2)  # in cells
        center, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        cell_x = center[..., 0].long().clamp(0, width - 1)
        cell_y = center[..., 1].long().clamp(0, height - 1)
        may = matchable(targets)
        row = cell_y * width + cell_x  # [B, M]
        weight = self._weights(row, may, width * height)
        target = torch.arange(row.shape[1], device=row.device).expand_as(row)
        radius = gaussian_radius(size, self.min_overlap)
        if self.integer_radius:
            radius = radius.floor()
        bumps = _bumps(cell_x, width, radius, may), _bumps(cell_y, height, radius, may)
        return HeatmapTargets(_paint(*bumps, targets.labels, num_classes), Pairs(row, target, weight))

    def _weights(self, row: Tensor, may: Tensor, n: int) -> Tensor:
        """[B, M] 1 where a target is learnt at its cell, else 0."""
        if self.shared_cell == "last":
            order = torch.where(may, torch.arange(row.shape[1], device=row.device), -1)
            last = row.new_full((row.shape[0], n), -1).scatter_reduce(1, row, order, "amax")
            may = may & (last.gather(1, row) == order)
        return may.float()


def gaussian_radius(size: Tensor, min_overlap: float) -> Tensor:
    """[...] radius of boxes [..., 2] (w, h), in the same unit: the least of the positive roots of three quadratics.

    Both corners may move by it, one outwards and one inwards, both inwards or both outwards, and the IoU with the box
    stays at least min_overlap. CornerNet's and CenterNet's own code solved the first two wrongly (greater roots, and a
    division by 2 in place of 2a), which gives other radii.
    """
    t = min_overlap
    size = size.clamp(min=0)
    total, area = size.sum(-1), size.prod(-1)
    # the smaller root as 2c / (b + sqrt(b^2 - 4ac)): no difference of nearly equal numbers
    tiny = torch.finfo(size.dtype).tiny
    mixed_c = area * (1 - t) / (1 + t)
    mixed = 2 * mixed_c / (total + (total.square() - 4 * mixed_c).clamp(min=0).sqrt()).clamp(min=tiny)
    inner_c = area * (1 - t)
    inner = inner_c / (total + (total.square() - 4 * inner_c).clamp(min=0).sqrt()).clamp(min=tiny)
    outer = inner_c / (t * total + (t * total * (t * total) + 4 * t * inner_c).sqrt()).clamp(min=tiny)
    return torch.minimum(torch.minimum(mixed, inner), outer)


def _bumps(cell: Tensor, cells: int, radius: Tensor, may: Tensor) -> Tensor:
    """[B, cells, M]: one axis of each target's bump, which is the product of its two axes."""
    distance = (torch.arange(cells, device=cell.device)[:, None] - cell[:, None]).to(radius).abs()
    sigma = (2 * radius + 1) / 6
    bump = torch.exp(-distance.square() / (2 * sigma.square())[:, None])
    return torch.where((distance <= radius[:, None]) & may[:, None], bump, 0.0)


def _paint(along_x: Tensor, along_y: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """[B, h*w, K]: the highest bump of each class; M in chunks, so that no [N, K, M] and no [N, M] is ever whole."""
    b, width, m = along_x.shape
    n = along_y.shape[1] * width
    heatmap = along_x.new_zeros(b, n, num_classes)
    labels = labels.clamp(0, num_classes - 1)
    for start in range(0, m, CHUNK):
        part = slice(start, start + CHUNK)
        bump = (along_y[:, :, None, part] * along_x[:, None, :, part]).flatten(1, 2)  # [B, N, m]
        heatmap.scatter_reduce_(2, labels[:, None, part].expand_as(bump), bump, "amax")
    return heatmap
