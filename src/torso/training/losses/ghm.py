"""Gradient harmonised classification loss, GHM-C: elements count by how rare their gradient is (arXiv 1811.05181)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.bounds import Count
from torso.training.losses._base import ClassLoss
from torso.training.losses.bce import soft_targets


class GHMLoss(ClassLoss):
    """Binary cross entropy of N elements, each times N / (elements in its bin * bins that have any), where bins divide
    the gradient's size |p - t|, 0..1, evenly. The sum is to be divided by N.

    The density is that of the rows given: of one device's micro-batch, without the running mean over steps that the
    authors' code has by option (its momentum 0).
    """

    takes_quality = True
    per_element = True

    def __init__(self, *, bins: Count = 10) -> None:
        self.bins = bins

    def per_column(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        return self.masked(logits, labels, quality, torch.ones_like(labels, dtype=torch.bool))

    def masked(self, logits: Tensor, labels: Tensor, quality: Tensor | None, used: Tensor) -> Tensor:
        x, t = soft_targets(logits, labels, quality)
        entropy = F.softplus(-x) + (1 - t) * x
        return torch.where(used[..., None], entropy * self._weights(x, t, used), 0.0)

    @torch.no_grad()
    def _weights(self, x: Tensor, t: Tensor, used: Tensor) -> Tensor:
        bin_ = ((x.sigmoid() - t).abs() * self.bins).long().clamp(max=self.bins - 1)
        bin_ = torch.where(used[..., None], bin_, -1)
        counts = torch.stack([(bin_ == i).sum() for i in range(self.bins)])
        share = counts.sum() / (counts.clamp(min=1) * (counts > 0).sum().clamp(min=1)).to(x.dtype)
        return share[bin_.clamp(min=0)]
