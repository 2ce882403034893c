"""FCOS: a point learns the smallest ground truth that contains it and suits its level (Tian, 1904.01355)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.bounds import NotNegative, Positive
from torso.data.targets import Targets
from torso.training.assigners._base import CHUNK, Assigner, matchable, with_a_row
from torso.training.assignment import BACKGROUND, Assignment
from torso.types import Priors


class FCOSAssigner(Assigner):
    """Positive where the point lies in the box and the largest distance to a side lies in the level's range.

    Args:
        radius: also within so many strides of the box's centre ("center sampling", the authors' later improvement;
            torchvision 1.5). 0 is the first paper: anywhere inside.
        range_scale: a level of stride s takes largest distances in (range_scale / 2 * s, range_scale * s], the finest
            from 0, the coarsest without an end: (0, 64], (64, 128] ... for strides 8, 16 ... at the paper's 8.

    Of several targets the smallest area wins, the first of equals. quality is centerness,
    sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), 0 off the positives.
    """

    gives_quality = True
    centers_inside = True

    def __init__(self, *, radius: NotNegative = 0.0, range_scale: Positive = 8.0) -> None:
        self.radius, self.range_scale = radius, range_scale

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment:
        targets = with_a_row(targets)
        low, high = self._ranges(priors)
        may = matchable(targets)
        smallest = target = None
        for start in range(0, targets.boxes.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            area = self._eligible_area(priors, targets.boxes[:, part], may[:, part], low, high)  # [B, N, m]
            value, row = area.min(dim=2)
            if smallest is None or target is None:
                smallest, target = value, row
            else:
                target = torch.where(value < smallest, row + start, target)
                smallest = torch.minimum(smallest, value)
        assert smallest is not None
        assert target is not None
        positive = torch.isfinite(smallest)
        matched = targets.boxes.gather(1, target[..., None].expand(-1, -1, 4))
        quality = torch.where(positive, centerness(priors.centers_xy, matched), 0.0)
        return Assignment(torch.where(positive, target, BACKGROUND), quality)

    def _ranges(self, priors: Priors) -> tuple[Tensor, Tensor]:
        """The range of largest distances that each prior may learn: [N, 1] each."""
        high = priors.strides_xy.amax(-1, keepdim=True) * self.range_scale
        low = high / 2
        sizes = priors.level_sizes
        first = torch.arange(high.shape[0], device=high.device)[:, None]
        low = torch.where(first < sizes[0], 0.0, low)
        return low, torch.where(first >= sum(sizes[:-1]), torch.inf, high)

    def _eligible_area(self, priors: Priors, boxes: Tensor, may: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Areas [B, N, m] of the targets that a prior may learn, inf for the others."""
        x, y = priors.centers_xy[:, 0, None], priors.centers_xy[:, 1, None]  # [N, 1]
        x1, y1, x2, y2 = boxes[:, None].unbind(-1)  # [B, 1, m]
        left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y
        nearest = torch.minimum(torch.minimum(left, top), torch.minimum(right, bottom))
        farthest = torch.maximum(torch.maximum(left, top), torch.maximum(right, bottom))
        ok = (nearest > 0) & (farthest > low) & (farthest <= high) & may[:, None]
        if self.radius:
            reach = priors.strides_xy * self.radius
            off_x, off_y = (x - (x1 + x2) / 2).abs(), (y - (y1 + y2) / 2).abs()
            ok = ok & (off_x < reach[:, :1]) & (off_y < reach[:, 1:])
        return torch.where(ok, (x2 - x1) * (y2 - y1), torch.inf)


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of points [N, 2] in boxes [B, N, 4]; 0 outside."""
    near, far = (points - boxes[..., :2]).clamp(min=0), (boxes[..., 2:] - points).clamp(min=0)
    ratio = torch.minimum(near, far) / torch.maximum(near, far).clamp(min=torch.finfo(boxes.dtype).tiny)
    return ratio.prod(-1).sqrt()
