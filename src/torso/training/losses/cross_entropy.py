"""Cross entropy over classes and background (softmax heads), with label smoothing (Szegedy et al. 2016, 1512.00567)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.bounds import BelowOne
from torso.training.losses._base import ClassLoss


class CrossEntropyLoss(ClassLoss):
    """-sum_k t_k log softmax(x)_k with t = (1 - e) one-hot + e / columns; background is the last column."""

    softmax = True

    def __init__(self, *, smoothing: BelowOne = 0.0) -> None:
        self.smoothing = smoothing

    def per_column(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        x = logits if logits.dtype == torch.float64 else logits.float()
        log_p = torch.log_softmax(x, dim=-1)
        hard = -log_p.gather(-1, labels[..., None])
        if not self.smoothing:
            return hard
        return (1 - self.smoothing) * hard - self.smoothing * log_p.mean(-1, keepdim=True)
