"""What an assigner said, in one form: rows that learn a truth, whether they are priors or pairs of prior and truth."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.priors._base import gather_priors, level_of_rows
from torso.training.assigners._base import CHUNK
from torso.training.assignment import IGNORED, Assignment, Pairs
from torso.types import Priors


class Matches(NamedTuple):
    """R rows an image: the N priors themselves (prior is None), or P pairs, of which several may share a prior.

    prior: [B, R] int64 or None; target: [B, R] int64, a row of Targets, 0 where there is none; positive: [B, R] bool;
    used: [B, N] bool, the priors that are not ignored; quality: [B, R] float or None; weight: [B, R] float or None;
    level: [N] int64, of the priors; levels: how many there are to be summed apart, 1 for all together.
    """

    prior: Tensor | None
    target: Tensor
    positive: Tensor
    used: Tensor
    quality: Tensor | None
    weight: Tensor | None
    level: Tensor
    levels: int

    def pick(self, values: Tensor) -> Tensor:
        """[B, N, W] or [B, N] of the priors as [B, R, W] or [B, R] of the rows."""
        if self.prior is None:
            return values
        if values.dim() == 2:
            return values.gather(1, self.prior)
        return values.gather(1, self.prior[..., None].expand(-1, -1, values.shape[-1]))

    def priors(self, priors: Priors) -> Priors:
        """The prior of each row."""
        return priors if self.prior is None else gather_priors(priors, self.prior)

    def on_priors(self, values: Tensor) -> Tensor:
        """[B, N]: of the values >= 0 of a prior's rows [B, R] the highest, 0 where it has no positive row."""
        values = torch.where(self.positive, values, 0.0)
        if self.prior is None:
            return values
        return torch.zeros_like(self.used, dtype=values.dtype).scatter_reduce(1, self.prior, values, "amax")

    def ignoring_crowds(self, priors: Priors, targets: Targets) -> Matches:
        """The same, but background whose centre lies in a crowd's box is ignored: it may well show an object."""
        learns = self.on_priors(torch.ones_like(self.positive, dtype=torch.float32)) > 0
        return self._replace(used=self.used & (learns | ~inside_crowds(priors, targets)))

    def sums(self, rows: Tensor) -> Tensor:
        """[B, levels]: sums over rows [B, R]."""
        return self._sums(rows, self.level if self.prior is None else self.level[self.prior])

    def sums_of_priors(self, values: Tensor) -> Tensor:
        """[B, levels]: sums over priors [B, N]."""
        return self._sums(values, self.level)

    def _sums(self, values: Tensor, level: Tensor) -> Tensor:
        if self.levels == 1:
            return values.sum(1, keepdim=True)
        return torch.stack([torch.where(level == i, values, 0).sum(1) for i in range(self.levels)], dim=1)


def matches_of(answer: Assignment | Pairs, priors: Priors, *, per_level: bool = False) -> Matches:
    """Either answer of an assigner in the common form."""
    level, levels = level_of_rows(priors), len(priors.levels) if per_level else 1
    if isinstance(answer, Assignment):
        target = answer.target
        learns = target >= 0
        return Matches(None, target.clamp(min=0), learns, target != IGNORED, answer.quality, None, level, levels)
    learns = answer.weight > 0
    used = torch.ones(learns.shape[0], level.shape[0], dtype=torch.bool, device=learns.device)
    return Matches(answer.prior, answer.target, learns, used, None, answer.weight, level, levels)


def inside_crowds(priors: Priors, targets: Targets) -> Tensor:
    """[B, N] bool: priors whose centre lies in a crowd's box."""
    x, y = priors.centers_xy[..., None, :].unbind(-1)  # [N, 1] each
    inside = torch.zeros((targets.boxes.shape[0], x.shape[-2]), dtype=torch.bool, device=targets.boxes.device)
    for start in range(0, targets.boxes.shape[1], CHUNK):
        rows = slice(start, start + CHUNK)
        crowd = (targets.valid & targets.crowd)[:, None, rows]
        x1, y1, x2, y2 = targets.boxes[:, None, rows].unbind(-1)
        inside |= ((x >= x1) & (x < x2) & (y >= y1) & (y < y2) & crowd).any(-1)
    return inside
