"""Distribution focal loss: a side's distribution is pulled to the two bins about its target (GFL, arXiv 2006.04388)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.training.losses._base import DistributionLoss


class DFLLoss(DistributionLoss):
    """-((i + 1 - y) log p_i + (y - i) log p_(i + 1)) for the target y between bins i and i + 1, mean of the four sides.

    Targets are clamped into 0..bins - 1. The least value is not 0 but the entropy of the two bins' shares.
    """

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        x = logits if logits.dtype == torch.float64 else logits.float()
        log_p = torch.log_softmax(x, dim=-1)
        last = x.shape[-1] - 1
        y = target.to(x).clamp(0, last)
        low = y.floor().clamp(max=last - 1)
        at_low = log_p.gather(-1, low.long()[..., None])[..., 0]
        at_high = log_p.gather(-1, low.long()[..., None] + 1)[..., 0]
        return -((low + 1 - y) * at_low + (y - low) * at_high).mean(-1)
