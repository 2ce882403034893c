"""Binary cross entropy per class on logits: RPN's objectness and the multi-label heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.parts import PartError
from torso.training.losses._base import ClassLoss


class BCE(ClassLoss):
    """Summed over classes. smoothing e: 1 -> 1 - e/2, 0 -> e/2. quality, where given, is the positive's target."""

    def __init__(self, *, smoothing: float = 0.0) -> None:
        if not 0 <= smoothing < 1:
            raise PartError(f"BCE.smoothing wants 0 <= e < 1; {smoothing} came")
        self.smoothing = smoothing

    def per_column(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        x = logits if logits.dtype == torch.float64 else logits.float()
        is_class = torch.arange(x.shape[-1], device=x.device) == labels[..., None]
        hit = 1.0 if quality is None else quality[..., None].to(x)
        t = torch.where(is_class, hit * (1 - self.smoothing / 2), self.smoothing / 2).to(x)
        return F.softplus(-x) + (1 - t) * x
