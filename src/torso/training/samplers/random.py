"""Random sampling of positives and background in a fixed proportion (Fast R-CNN, arXiv 1504.08083)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.bounds import Count, Probability
from torso.training.assignment import BACKGROUND, IGNORED, Assignment
from torso.training.samplers._base import Sampler


class RandomSampler(Sampler):
    """Per image up to `number * positive_share` positives; background fills up to `number`. RPN: 256 at 0.5; the
    second stage: 512 at 0.25.
    """

    fixed_count = True

    def __init__(self, *, number: Count = 256, positive_share: Probability = 0.5) -> None:
        self.number, self.positive_share = number, positive_share

    def __call__(self, assignment: Assignment, loss: Tensor | None = None) -> Assignment:
        target = assignment.target
        rows, drawn = self.draw(target)
        kept = torch.zeros_like(target, dtype=torch.bool).scatter(1, rows, drawn)
        return Assignment(torch.where(kept, target, IGNORED), assignment.quality)

    def draw(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [B, S] drawn from target [B, N], positives first, and which of them are real [B, S]; S is fixed."""
        size = min(self.number, target.shape[1])
        most = min(int(self.number * self.positive_share), size)
        keys = torch.rand(target.shape, device=target.device)
        positive, background = target >= 0, target == BACKGROUND
        # one sort for both: positives within their share first, then background, then what must not be drawn
        share = torch.where(positive, keys, -1.0).topk(max(most, 1), dim=1)
        real = (share.values >= 0) & (torch.arange(share.values.shape[1], device=target.device) < most)
        in_share = torch.zeros_like(positive).scatter(1, share.indices, real)
        order = torch.where(in_share, 2 + keys, torch.where(background, 1 + keys, 0.0))
        best = order.topk(size, dim=1)
        return best.indices, best.values > 0
