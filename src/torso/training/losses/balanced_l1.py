"""Balanced L1 on codes: small errors' gradients are raised, large ones' held (Libra R-CNN, arXiv 1904.02701)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from torso.bounds import Positive
from torso.training.losses._base import BoxLoss


class BalancedL1Loss(BoxLoss):
    """alpha / b (b d + 1) ln(b d / beta + 1) - alpha d below beta, gamma d + gamma / b - alpha beta above, with
    b = e^(gamma / alpha) - 1; summed over the four codes.

    alpha: the smaller, the more small errors count; gamma: the slope of large errors.
    """

    space: Literal["codes", "boxes"] = "codes"

    def __init__(self, *, alpha: Positive = 0.5, gamma: Positive = 1.5, beta: Positive = 1.0) -> None:
        self.alpha, self.gamma, self.beta = alpha, gamma, beta

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        d = (prediction if prediction.dtype == torch.float64 else prediction.float()) - target
        d = d.abs()
        b = math.exp(self.gamma / self.alpha) - 1
        near = d.clamp(max=self.beta)  # where the logarithm is not asked, it must not overflow either
        small = self.alpha / b * (b * near + 1) * torch.log(b * near / self.beta + 1) - self.alpha * near
        large = self.gamma * d + self.gamma / b - self.alpha * self.beta
        return torch.where(d < self.beta, small, large).sum(-1)
