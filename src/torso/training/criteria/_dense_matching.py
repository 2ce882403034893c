"""Who learns what under a dense criterion: its assigner's answer without crowds, and what its sampler keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.heads.dense import DenseHead
from torso.training.assigners._sayable import sayable
from torso.training.assignment import BACKGROUND, IGNORED, Assignment, Pairs
from torso.training.criteria._dense_sums import labels_of
from torso.training.criteria._matches import Matches, inside_crowds, matches_of
from torso.training.criteria._objectness import background_costs
from torso.types import DensePredictions, Priors

if TYPE_CHECKING:
    from torso.training.criteria.dense import DenseCriterion


def matched(criterion: DenseCriterion, raw: DensePredictions, targets: Targets, head: DenseHead) -> Matches:
    """What the rows of a prediction learn."""
    answer, sampler = _assigned(criterion, raw, targets, head), criterion.sampler
    if isinstance(answer, Assignment):
        answer = _without_crowds(criterion, answer, raw.priors, targets)
        if sampler is not None:
            answer = sampler(answer, _costs(criterion, answer, raw, targets, head) if sampler.needs_loss else None)
    return _matches(criterion, answer, raw.priors, targets)


def matched_ahead(criterion: DenseCriterion, priors: Priors, targets: Targets, head: DenseHead) -> Matches:
    """The same as far as it can be told without predictions: as many rows of each kind, though perhaps others."""
    answer, sampler = _said(criterion, criterion.assigner(priors, targets), priors, targets, head), criterion.sampler
    if isinstance(answer, Assignment):
        answer = _without_crowds(criterion, answer, priors, targets)
        if sampler is not None:
            # which background a sampler keeps may follow from its loss; how much of it does not
            answer = sampler(answer, answer.target.float() if sampler.needs_loss else None)
    return _matches(criterion, answer, priors, targets)


def _assigned(
    criterion: DenseCriterion, raw: DensePredictions, targets: Targets, head: DenseHead
) -> Assignment | Pairs:
    assigner = criterion.assigner
    if not assigner.needs_predictions:
        return _said(criterion, assigner(raw.priors, targets), raw.priors, targets, head)
    boxes = head.coder.decode(raw.codes.detach(), raw.priors)
    quality = raw.quality.detach() if raw.quality is not None and assigner.fused_scores else None
    answer = assigner(raw.priors, targets, boxes, head.class_scores(raw.logits.detach(), quality))
    return _said(criterion, answer, raw.priors, targets, head)


def _said(
    criterion: DenseCriterion, answer: Assignment | Pairs, priors: Priors, targets: Targets, head: DenseHead
) -> Assignment | Pairs:
    """What the head's codes can say of an answer."""
    if not head.coder.holds_center or criterion.assigner.centers_inside:
        return answer
    return sayable(answer, priors, targets)


def _without_crowds(criterion: DenseCriterion, answer: Assignment, priors: Priors, targets: Targets) -> Assignment:
    """Before anything is drawn: what is ignored afterwards would have taken the places of what teaches."""
    if criterion.crowd == "background":
        return answer
    gone = (answer.target == BACKGROUND) & inside_crowds(priors, targets)
    return Assignment(torch.where(gone, IGNORED, answer.target), answer.quality)


def _costs(
    criterion: DenseCriterion, answer: Assignment, raw: DensePredictions, targets: Targets, head: DenseHead
) -> Tensor:
    """[B, N]: what each prior costs as background now, by the loss that teaches background."""
    if criterion.cls_on == "used":
        return criterion.cls_loss(raw.logits.detach(), labels_of(matches_of(answer, raw.priors), targets, head))
    assert raw.quality is not None
    return background_costs(
        raw.quality.detach(), raw.priors, loss=criterion.quality_loss, level_weights=criterion.level_weights
    )


def _matches(criterion: DenseCriterion, answer: Assignment | Pairs, priors: Priors, targets: Targets) -> Matches:
    matches = matches_of(answer, priors, per_level=criterion.per_level)
    in_pairs = isinstance(answer, Pairs) and criterion.crowd == "ignored"
    return matches.ignoring_crowds(priors, targets) if in_pairs else matches
