"""KL loss (He et al. 2019, 1809.08545): codes are Gaussians, and the head is charged for being sure and wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import Tensor

from torso.training.losses._base import UncertainBoxLoss


class KLLoss(UncertainBoxLoss):
    """exp(-a) smooth_l1(d) + a / 2, a = log sigma^2, summed over the four codes; least where sigma^2 is d^2 (d <= 1).

    smooth_l1 is d^2 / 2 to 1 and d - 1/2 beyond. The constant of the divergence is left out, so values fall below 0 as
    the head gets sure. Without log variances sigma is 1: smooth L1.

    Args:
        least_log_variance: a counts as this where it is below; codes that fit exactly would otherwise have weights
            without bound. -12 is a sigma of 0.0025 of an anchor's side. An a that fell below is pushed back by an error
            as hard as at the bound, whose weight, e^12, the code's own gradient has; without an error it stays.
    """

    space: Literal["codes", "boxes"] = "codes"

    def __init__(self, *, least_log_variance: Annotated[float, Interval(lt=0)] = -12.0) -> None:
        self.least_log_variance = least_log_variance

    def __call__(self, prediction: Tensor, target: Tensor, log_variance: Tensor | None = None) -> Tensor:
        d = ((prediction if prediction.dtype == torch.float64 else prediction.float()) - target).abs()
        smooth = torch.where(d < 1, 0.5 * d.square(), d - 0.5)
        if log_variance is None:
            return smooth.sum(-1)
        a = _bounded(log_variance.to(d.dtype), self.least_log_variance)
        return (torch.exp(-a) * smooth + a / 2).sum(-1)


class _Bounded(torch.autograd.Function):
    """x.clamp(min=least); below the bound a gradient passes where descent leads back up, and is 0 where it leads down.

    Of a loss that is weighted by positive numbers: descent leads up where the gradient is negative.
    """

    @staticmethod
    def forward(x: Tensor, least: float) -> Tensor:
        return x.clamp(min=least)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, least = inputs
        ctx.save_for_backward(x >= least)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return torch.where(inside, gradient, gradient.clamp(max=0.0)), None


def _bounded(x: Tensor, least: float) -> Tensor:
    bounded: Tensor = _Bounded.apply(x, least)  # type: ignore[no-untyped-call]
    return bounded
