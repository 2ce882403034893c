"""Focal loss against heatmaps of Gaussian bumps (CornerNet, arXiv 1808.01244, eq. 1; CenterNet 1904.07850, eq. 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.bounds import NotNegative
from torso.training.losses._base import HeatmapLoss


class GaussianFocalLoss(HeatmapLoss):
    """-(1 - p)^alpha log p where the heatmap is 1, -(1 - y)^beta p^alpha log(1 - p) elsewhere.

    Computed on logits, so that neither logarithm needs the clamp or the epsilon of the published codes.
    """

    def __init__(self, *, alpha: NotNegative = 2.0, beta: NotNegative = 4.0) -> None:
        self.alpha, self.beta = alpha, beta

    def __call__(self, logits: Tensor, heatmap: Tensor) -> Tensor:
        x = logits if logits.dtype == torch.float64 else logits.float()
        peak = heatmap == 1
        # both cases are w q^alpha -log(1 - q) with q the share of the score that is wrong: one pass for the two
        wrong = torch.where(peak, -x, x)
        weight = torch.where(peak, 1.0, (1 - heatmap) ** self.beta)
        return weight * wrong.sigmoid() ** self.alpha * F.softplus(wrong)
