"""Sums over a dense head's rows: of the class loss and of what is weighed a positive."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.boxes import OverlapKind, aligned_overlap
from torso.heads.dense import DenseHead
from torso.training.criteria._matches import Matches
from torso.training.losses._base import ClassLoss


def labels_of(matches: Matches, targets: Targets, head: DenseHead) -> Tensor:
    """[B, R]: 0..K-1, and off the positives what the head calls background."""
    absent = 0 if head.softmax else -1  # a softmax without background reads every label, and then drops it
    background = head.num_classes if head.columns > head.num_classes else absent
    labels = targets.labels.gather(1, matches.target).clamp(max=head.num_classes - 1)
    return torch.where(matches.positive, labels, background)


def class_sums(
    loss: ClassLoss,
    logits: Tensor | Sequence[Tensor],
    labels: Tensor,
    quality: Tensor | None,
    used: Tensor,
    matches: Matches,
) -> Tensor:
    """[B, levels]: the class loss of labels and soft targets [B, R], summed over the rows in use.

    logits: [B, N, columns] of all priors, which rows are picked from; or those of each level, where rows are priors and
    all levels are one sum: then none has to be joined with the others.
    """
    if isinstance(logits, Tensor):
        rows = loss.masked(matches.pick(logits), labels, quality, used).sum(-1)
        return matches.sums(rows if matches.weight is None else rows * matches.weight)
    sizes = [x.shape[1] for x in logits]
    qualities = [None] * len(sizes) if quality is None else torch.split(quality, sizes, dim=1)
    split = zip(logits, torch.split(labels, sizes, dim=1), qualities, torch.split(used, sizes, dim=1), strict=True)
    sums = [loss.masked(*level).flatten(1).sum(1) for level in split]
    return torch.stack(sums, dim=1).sum(1, keepdim=True)


def weighed(values: Tensor, matches: Matches, weights: Tensor | None) -> Tensor:
    """[B, levels] sums over the positives, each times its weight."""
    values = torch.where(matches.positive, values, 0.0)
    return matches.sums(values if weights is None else values * weights)


@torch.no_grad()
def overlap_now(boxes: Tensor | None, truth: Tensor, kind: OverlapKind) -> Tensor:
    """[B, R] in 0..1: how well boxes fit as they are now."""
    assert boxes is not None
    return aligned_overlap(boxes, truth, kind).clamp(min=0)
