"""What the sums of a dense criterion are divided by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.heads.dense import DenseHead
from torso.training.assigners._base import matchable
from torso.training.criteria._dense_words import Normaliser
from torso.training.criteria._matches import Matches

if TYPE_CHECKING:
    from torso.training.criteria.dense import DenseCriterion


def counts_of(
    criterion: DenseCriterion, matches: Matches, weights: Tensor | None, targets: Targets, head: DenseHead
) -> dict[str, Tensor]:
    """[levels, or 1] a term, float; by the terms' names, in their order. weights: of the boxes, [B, R]."""
    cls = box = _count(criterion.normaliser, matches, targets)
    if criterion.cls_loss.per_element:
        rows: Normaliser = "positives" if criterion.cls_on == "positives" else "sampled"
        cls = _count(rows, matches, targets) * head.columns
    if _weights_are_counted(criterion):
        assert weights is not None
        box = matches.sums(weights).sum(0)
    counts = {"cls": cls, "box": box}
    if head.coder.bins:
        counts["dfl"] = box
    if head.has_quality:
        counts[criterion.quality_name] = _count(criterion.quality_normaliser, matches, targets)
    return counts


def divided_by_picture(criterion: DenseCriterion, term: str) -> bool:
    """Whether each picture's sum of a term, of those in counts_of, is divided by that picture's positives first."""
    if term == criterion.quality_name:
        return criterion.quality_normaliser == "image"
    own_count = criterion.cls_loss.per_element if term == "cls" else _weights_are_counted(criterion)
    return criterion.normaliser == "image" and not own_count


def counts_follow_the_draw(criterion: DenseCriterion) -> bool:
    """Whether a count depends on which rows the sampler keeps, and not only on how many of each kind."""
    sampler, kinds = criterion.sampler, (criterion.normaliser, criterion.quality_normaliser)
    if sampler is None:
        return False
    by_quality = criterion.box_weighting == "quality" or "quality" in kinds
    background = "sampled" in kinds or (criterion.cls_loss.per_element and criterion.cls_on == "used")
    of_positives = not sampler.keeps_positives and (by_quality or criterion.per_level)
    return not sampler.fixed_count or of_positives or (criterion.per_level and background)


def _weights_are_counted(criterion: DenseCriterion) -> bool:
    """Boxes and distributions are then divided by the sum of their weights."""
    return criterion.box_weighting in ("quality", "score")


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
