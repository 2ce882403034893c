"""Hard negative mining: of the background, what costs most now (SSD, arXiv 1512.02325)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.bounds import Positive, Whole
from torso.training.assignment import BACKGROUND, IGNORED, Assignment
from torso.training.samplers._base import Sampler


class HardNegativeSampler(Sampler):
    """Keeps all positives, and per image `ratio` times as much background, that of the highest loss: of the class,
    or of the objectness where that alone learns background.

    least: background that is kept in an image anyway. The paper keeps none where there are no positives.
    """

    fixed_count = True
    keeps_positives = True
    needs_loss = True

    def __init__(self, *, ratio: Positive = 3.0, least: Whole = 0) -> None:
        self.ratio, self.least = ratio, least

    def __call__(self, assignment: Assignment, loss: Tensor | None = None) -> Assignment:
        if loss is None:
            raise ValueError("HardNegative needs the loss of every prior; pass loss [B, N]")
        target = assignment.target
        background = target == BACKGROUND
        wanted = ((target >= 0).sum(1, keepdim=True) * self.ratio).floor().clamp(min=self.least)
        order = torch.where(background, loss.float(), -torch.inf).argsort(dim=1, descending=True, stable=True)
        place = torch.arange(target.shape[1], device=target.device).expand_as(order)
        rank = torch.empty_like(order).scatter(1, order, place)
        return Assignment(torch.where(background & (rank >= wanted), IGNORED, target), assignment.quality)
