"""Variance voting (1809.08545): a chosen box becomes the mean of the boxes around it, the surest counting most."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from torso.geometry.overlaps import Overlap
from torso.suppression._base import groups
from torso.types import Candidates

VotingForm = Literal["paper", "seed"]

# px^2. A code that clamps its box at a bound says variance 0, and exp can overflow: neither may decide alone.
_LEAST, _MOST = 1e-4, 1e10


class Voting(NamedTuple):
    """Who votes and how much: rows whose overlap with the chosen one is above threshold, and the chosen one itself.

    "paper": weight exp(-(1 - overlap)^2 / sigma) / variance; "seed" (the paper's first form): 1 / variance.
    """

    form: VotingForm
    threshold: float
    sigma: float


def vote(
    chosen: Candidates, order: Tensor, rows: Candidates, voting: Voting, overlap: Overlap, *, class_agnostic: bool
) -> Candidates:
    """The chosen rows with their boxes moved; scores, labels and index stay. Each coordinate is averaged apart.

    chosen: [B, K] of rows [B, T], by their numbers in order (T: empty). Only rows that compete with the chosen one vote
    (groups). rows are the boxes as predicted: what moves has no vote. The variance becomes the mean of the voters',
    weighted alike: were they independent it would be less, but boxes that one network says of one object err together.
    """
    assert rows.variance is not None
    overlaps = overlap(chosen, rows)
    itself = torch.arange(rows.scores.shape[1], device=order.device) == order.unsqueeze(2)
    may = (overlaps > voting.threshold) & (rows.scores > 0).unsqueeze(1)
    own, others = (groups(c, class_agnostic=class_agnostic) for c in (chosen, rows))
    if own is not None and others is not None:
        may = may & (own.unsqueeze(2) == others.unsqueeze(1))
    weights = torch.ones_like(overlaps)
    if voting.form == "paper":
        weights = torch.exp(-((1 - overlaps) ** 2) / voting.sigma)
    weights = weights.where(may, 0.0).masked_fill(itself, 1.0)
    sure = 1 / rows.variance.float().nan_to_num(nan=_MOST).clamp(_LEAST, _MOST)
    filled = (chosen.scores > 0).unsqueeze(2)
    moved, spread = zip(*(_mean(weights * sure[..., c].unsqueeze(1), weights, chosen.boxes[..., c], rows.boxes[..., c])
                          for c in range(4)), strict=True)  # fmt: skip
    boxes, variance = torch.stack(moved, dim=-1).where(filled, 0.0), torch.stack(spread, dim=-1).where(filled, 0.0)
    return chosen.changed(boxes=boxes, variance=variance)


def _mean(weights: Tensor, shares: Tensor, own: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Of one coordinate, from its distances to the own one: sums of large coordinates would round pixels away.

    weights, shares: [B, K, T]; own: [B, K]; values: [B, T]. Elementwise, since a matrix product may run in TF32.
    """
    total = weights.sum(2).clamp(min=torch.finfo(weights.dtype).tiny)
    shift = (weights * (values.unsqueeze(1) - own.unsqueeze(2))).sum(2) / total
    return own + shift, shares.sum(2) / total
