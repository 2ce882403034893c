"""Focal loss: binary cross entropy with easy places turned down (Lin et al. 2017, arXiv 1708.02002)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torso.parts import PartError
from torso.training.losses._base import ClassLoss


class Focal(ClassLoss):
    """-alpha_t (1 - p_t)^gamma log p_t, summed over classes; labels are indices, never a one-hot matrix in memory.

    smoothing: label smoothing e of the targets, 1 -> 1 - e/2 and 0 -> e/2 (the binary form); p_t, alpha_t and the
    cross entropy are then those of the soft target.
    """

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0, smoothing: float = 0.0) -> None:
        if not 0 <= alpha <= 1 or gamma < 0 or not 0 <= smoothing < 1:
            raise PartError(
                f"Focal wants alpha in 0..1, gamma >= 0 and smoothing in 0..1; {alpha}, {gamma}, {smoothing} came"
            )
        self.alpha, self.gamma, self.smoothing = alpha, gamma, smoothing

    def per_column(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        value: Tensor = _Focal.apply(logits, labels, self.alpha, self.gamma, self.smoothing)  # type: ignore[no-untyped-call]
        return value


class _Focal(torch.autograd.Function):
    """The loss with its gradient in closed form; it keeps the logits as they came and the labels, nothing else.

    Both ways take one exponential, one logarithm and one division an element; what autograd derives from the formula
    takes several of each and is bound by them.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, alpha: float, gamma: float, smoothing: float) -> Tensor:
        ctx.save_for_backward(logits, labels)
        ctx.settings = alpha, gamma, smoothing
        x, t = _wide(logits), _soft_targets(logits, labels, smoothing)
        p, entropy = _probability(x, t)
        return (alpha * t + (1 - alpha) * (1 - t)) * (p + t - 2 * p * t) ** gamma * entropy

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, labels = ctx.saved_tensors
        alpha, gamma, smoothing = ctx.settings
        x, t = _wide(logits), _soft_targets(logits, labels, smoothing)
        p, entropy = _probability(x, t)
        miss = p + t - 2 * p * t  # 1 - p_t
        slope = miss**gamma * (p - t)
        if gamma:
            slope = slope + gamma * miss.clamp(min=1e-30) ** (gamma - 1) * (1 - 2 * t) * p * (1 - p) * entropy
        return (gradient * (alpha * t + (1 - alpha) * (1 - t)) * slope).to(logits.dtype), None, None, None, None


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _soft_targets(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    is_class = torch.arange(logits.shape[-1], device=logits.device) == labels[..., None]
    return torch.where(is_class, 1 - smoothing / 2, smoothing / 2).to(_wide(logits).dtype)


def _probability(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """sigmoid(x), and the binary cross entropy of x against t, stable at both ends."""
    e = (-x.abs()).exp()
    share = 1 / (1 + e)
    return torch.where(x >= 0, share, e * share), e.log1p() + x.clamp(min=0) - x * t
