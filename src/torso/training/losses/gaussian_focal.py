"""Focal loss against heatmaps of Gaussian bumps (CornerNet, arXiv 1808.01244, eq. 1; CenterNet 1904.07850, eq. 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.parts import PartError
from torso.training.losses._base import HeatmapLoss


class GaussianFocal(HeatmapLoss):
    """-(1 - p)^alpha log p where the heatmap is 1, -(1 - y)^beta p^alpha log(1 - p) elsewhere.

    Computed on logits, so that neither logarithm needs the clamp or the epsilon of the published codes.
    """

    def __init__(self, *, alpha: float = 2.0, beta: float = 4.0) -> None:
        if alpha < 0 or beta < 0:
            raise PartError(f"GaussianFocal wants alpha >= 0 and beta >= 0; {alpha} and {beta} came")
        self.alpha, self.beta = alpha, beta

    def __call__(self, logits: Tensor, heatmap: Tensor) -> Tensor:
        x = logits if logits.dtype == torch.float64 else logits.float()
        p = x.sigmoid()
        peak = (1 - p) ** self.alpha * F.softplus(-x)
        slope = (1 - heatmap) ** self.beta * p**self.alpha * F.softplus(x)
        return torch.where(heatmap == 1, peak, slope)
