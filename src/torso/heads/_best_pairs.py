"""The best rows and classes of every level, together."""

from __future__ import annotations

import torch
from torch import Tensor


def best_pairs(scores: Tensor, levels: list[int], top: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best (row, class) pairs of every level: scores, row positions and labels, each [B, T]."""
    classes = scores.shape[-1]
    found, positions, start = [], [], 0
    for size in levels:
        flat = scores[:, start : start + size].flatten(1)
        best = flat.topk(min(top, flat.shape[1]))
        found.append(best.values)
        positions.append(best.indices + start * classes)
        start += size
    pairs = torch.cat(positions, dim=1)
    return torch.cat(found, dim=1), pairs // classes, pairs % classes
