"""Focal loss: binary cross entropy with easy locations turned down (Lin et al. 2017, arXiv 1708.02002)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.bounds import BelowOne, NotNegative, Probability
from torso.training.losses._base import ClassLoss


class FocalLoss(ClassLoss):
    """-alpha_t (1 - p_t)^gamma log p_t, summed over classes; labels are indices, never a one-hot matrix in memory.

    smoothing: label smoothing e of the targets, 1 -> 1 - e/2 and 0 -> e/2 (the binary form); p_t, alpha_t and the
    cross entropy are then those of the soft target.
    """

    def __init__(self, *, alpha: Probability = 0.25, gamma: NotNegative = 2.0, smoothing: BelowOne = 0.0) -> None:
        self.alpha, self.gamma, self.smoothing = alpha, gamma, smoothing

    def per_column(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        x = logits if logits.dtype == torch.float64 else logits.float()
        is_class = torch.arange(x.shape[-1], device=x.device) == labels[..., None]
        t = torch.where(is_class, 1 - self.smoothing / 2, self.smoothing / 2).to(x)
        p = x.sigmoid()
        p_t = p * t + (1 - p) * (1 - t)
        alpha_t = self.alpha * t + (1 - self.alpha) * (1 - t)
        entropy = F.softplus(-x) + (1 - t) * x  # binary cross entropy with logits, stable at both ends
        return alpha_t * (1 - p_t) ** self.gamma * entropy
