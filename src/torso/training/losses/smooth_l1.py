"""Smooth L1 on codes: quadratic near zero, linear beyond beta (Girshick 2015, arXiv 1504.08083); beta 0 is L1."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from torso.bounds import NotNegative
from torso.training.losses._base import BoxLoss


class SmoothL1Loss(BoxLoss):
    """0.5 d^2 / beta below beta, d - beta / 2 above, summed over the four codes."""

    space: Literal["codes", "boxes"] = "codes"

    def __init__(self, *, beta: NotNegative = 1.0) -> None:
        self.beta = beta

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        d = (prediction if prediction.dtype == torch.float64 else prediction.float()) - target
        d = d.abs()
        if self.beta:
            d = torch.where(d < self.beta, 0.5 * d.square() / self.beta, d - 0.5 * self.beta)
        return d.sum(-1)
