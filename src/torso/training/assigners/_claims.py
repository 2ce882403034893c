"""Top-k rules: ground truths claim priors, a prior goes to one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.types import Priors


def strongest_claim(rows: Tensor, value: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """For each of n priors the target that claims it with the highest value.

    rows, value: [B, M, c], the priors that each target claims; claims below 0 do not count. Returns the target's row
    [B, N] and the value [B, N], both -1 where none claims the prior.
    """
    b, m, c = rows.shape
    flat, claims = rows.flatten(1), value.flatten(1)
    best = value.new_full((b, n), -1.0).scatter_reduce(1, flat, claims, "amax")
    owner = torch.arange(m, device=rows.device)[None, :, None].expand(b, m, c).flatten(1)
    wins = (claims >= 0) & (claims == best.gather(1, flat))
    # of equal values the first target keeps the prior, as with the maximum over targets of the authors' code
    target = rows.new_full((b, n), m).scatter_reduce(1, flat, torch.where(wins, owner, m), "amin")
    return torch.where(target < m, target, -1), best


def depth_inside(priors: Priors, boxes: Tensor) -> Tensor:
    """[B, N, m]: distance of each prior's centre to the nearest side of each box [B, m, 4], negative outside."""
    x, y = priors.centers_xy[:, 0, None], priors.centers_xy[:, 1, None]  # [N, 1]
    x1, y1, x2, y2 = boxes[:, None].unbind(-1)  # [B, 1, m]
    return torch.minimum(torch.minimum(x - x1, y - y1), torch.minimum(x2 - x, y2 - y))


def scores_of(scores: Tensor, labels: Tensor) -> Tensor:
    """[B, N, m]: the scores [B, N, K] of the classes [B, m]."""
    labels = labels.clamp(max=scores.shape[-1] - 1)
    return scores.gather(2, labels[:, None].expand(-1, scores.shape[1], -1))
