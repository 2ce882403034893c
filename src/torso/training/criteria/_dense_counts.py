"""What the sums of a dense criterion are divided by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from torso.heads.dense import Dense as DenseHead
from torso.training.assigners._base import matchable
from torso.training.criteria._matches import Matches
from torso.training.targets import Targets

if TYPE_CHECKING:
    from torso.training.criteria.dense import Dense

Normaliser = Literal["positives", "image", "sampled", "quality", "targets", "batch"]


def counts_of(
    criterion: Dense, matches: Matches, weights: Tensor | None, targets: Targets, head: DenseHead
) -> dict[str, Tensor]:
    """[levels, or 1] a term, float; by the terms' names, in their order. weights: of the boxes, [B, R]."""
    cls = box = _count(criterion.normaliser, matches, targets)
    if criterion.cls_loss.per_element:
        cls = _count("sampled", matches, targets) * head.columns
    if criterion.box_weighting in ("quality", "score"):
        assert weights is not None
        box = matches.sums(weights).sum(0)
    counts = {"cls": cls, "box": box}
    if head.coder.bins:
        counts["dfl"] = box
    if head.has_quality:
        counts[criterion.quality_name] = _count(criterion.quality_normaliser, matches, targets)
    return counts


def _count(kind: Normaliser, matches: Matches, targets: Targets) -> Tensor:
    if kind == "positives":
        return matches.sums(matches.positive).sum(0).float()
    if kind == "sampled":
        return matches.sums_of_priors(matches.used).sum(0).float()
    if kind == "quality":
        assert matches.quality is not None
        return matches.sums(torch.where(matches.positive, matches.quality, 0.0)).sum(0)
    if kind == "targets":
        return matchable(targets).sum().float().expand(matches.levels)
    return torch.full((matches.levels,), float(matches.used.shape[0]), device=matches.used.device)
