"""Binary cross entropy per class on logits: RPN's objectness and the multi-label heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.bounds import BelowOne
from torso.training.losses._base import ClassLoss


class BCELoss(ClassLoss):
    """Summed over classes. smoothing e: 1 -> 1 - e/2, 0 -> e/2. quality, where given, is the positive's target."""

    takes_quality = True

    def __init__(self, *, smoothing: BelowOne = 0.0) -> None:
        self.smoothing = smoothing

    def per_column(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        x, t = soft_targets(logits, labels, quality)
        t = t * (1 - self.smoothing) + self.smoothing / 2
        return F.softplus(-x) + (1 - t) * x


def soft_targets(logits: Tensor, labels: Tensor, quality: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits [..., K] in float32 or better, and what they should score: quality [...] (or 1) at the label, else 0."""
    x = logits if logits.dtype == torch.float64 else logits.float()
    is_class = torch.arange(x.shape[-1], device=x.device) == labels[..., None]
    return x, is_class.to(x) if quality is None else torch.where(is_class, quality[..., None].to(x), 0.0)
