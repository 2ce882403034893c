"""Varifocal loss: positives weigh what their boxes are worth, only background is turned down (VFNet, 2008.13367)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.bounds import NotNegative
from torso.training.losses._base import ClassLoss
from torso.training.losses.bce import soft_targets


class VFLLoss(ClassLoss):
    """q times the binary cross entropy of p against q where q > 0, alpha p^gamma times that against 0 elsewhere; q is
    the quality on the target's class (1 where none is given). Summed over classes.
    """

    takes_quality = True
    soft = True

    def __init__(self, *, alpha: NotNegative = 0.75, gamma: NotNegative = 2.0) -> None:
        self.alpha, self.gamma = alpha, gamma

    def per_column(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        x, q = soft_targets(logits, labels, quality)
        entropy = x.clamp(min=0) - x * q + torch.log1p((-x.abs()).exp())
        return torch.where(q > 0, q, self.alpha * x.sigmoid() ** self.gamma) * entropy
