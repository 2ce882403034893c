"""The loss of a dense head's quality branch: centerness or IoU on positives, or objectness against background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.training.criteria._matches import Matches
from torso.types import Priors


def quality_sums(
    logits: Tensor,
    wanted: Tensor,
    matches: Matches,
    priors: Priors,
    *,
    on: Literal["positives", "used"],
    loss: Literal["bce", "squared"],
    positive_weight: float,
    level_weights: Sequence[float],
) -> Tensor:
    """[B, levels] sums of the loss between logits [B, N] and what is wanted of the rows [B, R].

    on "used": every prior that is not ignored, 0 wanted where it has no positive row, the highest where it has several.
    """
    value = _loss(matches.pick(logits) if on == "positives" else logits, wanted, matches, on, loss)
    if on == "used" and positive_weight != 1:
        positive = matches.on_priors(torch.ones_like(wanted)) > 0
        value = torch.where(positive, value * positive_weight, value)
    if level_weights:
        factor = _by_level(value, priors, level_weights).expand_as(matches.used)
        value = value * (matches.pick(factor) if on == "positives" else factor)
    return matches.sums(value) if on == "positives" else matches.sums_of_priors(value)


def background_costs(
    logits: Tensor, priors: Priors, *, loss: Literal["bce", "squared"], level_weights: Sequence[float]
) -> Tensor:
    """[B, N]: the loss of an objectness [B, N] at priors that are background."""
    value = _between(logits, torch.zeros_like(logits), loss)
    return value * _by_level(value, priors, level_weights) if level_weights else value


def _by_level(like: Tensor, priors: Priors, weights: Sequence[float]) -> Tensor:
    """[N]: each prior's weight, that of its level."""
    pairs = zip(priors.level_sizes, weights, strict=True)
    return torch.cat([like.new_full((size,), weight) for size, weight in pairs])


def _loss(logits: Tensor, wanted: Tensor, matches: Matches, on: str, loss: str) -> Tensor:
    if on == "used":
        wanted = matches.on_priors(wanted)
    value = _between(logits, wanted, loss)
    return torch.where(matches.positive if on == "positives" else matches.used, value, 0.0)


def _between(logits: Tensor, wanted: Tensor, loss: str) -> Tensor:
    x = logits if logits.dtype == torch.float64 else logits.float()
    if loss == "bce":
        return F.binary_cross_entropy_with_logits(x, wanted.to(x), reduction="none")
    return 0.5 * (x.sigmoid() - wanted).square()
