"""Which combinations of parts the dense criterion refuses, with the reason and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torso.heads.dense import DenseHead
from torso.parts import PartError
from torso.training.criteria._assigner_checks import check_assigner, wants_soft_scores
from torso.training.criteria._box_loss_checks import check_box_loss

if TYPE_CHECKING:
    from torso.training.criteria.dense import DenseCriterion


def check_numbers(criterion: DenseCriterion) -> None:
    """Settings that contradict each other, whatever the head."""
    normalisers = (criterion.normaliser, criterion.quality_normaliser)
    if criterion.per_level and "image" in normalisers:
        raise PartError("the dense criterion divides by level or by image, not both: set per_level=false")
    if not 0 <= criterion.quality_mix <= 1 or criterion.positive_weight <= 0:
        raise PartError(
            "the dense criterion wants quality_mix in 0..1 and positive_weight > 0; "
            f"{criterion.quality_mix} and {criterion.positive_weight} came"
        )
    weights = (criterion.cls_weight, criterion.box_weight, criterion.quality_weight, criterion.dfl_weight)
    if min(*weights, *criterion.level_weights, 0.0) < 0:
        raise PartError(
            f"weights of the dense criterion must not be negative; {weights} and {criterion.level_weights} came"
        )


def check_combination(criterion: DenseCriterion, head: DenseHead) -> None:
    """Raise PartError where this criterion cannot train this head."""
    _check_scores(criterion, head)
    check_assigner(criterion, head)
    _check_target(criterion, head)
    check_box_loss(criterion.box_loss, head, head.coder)
    _check_levels(criterion, head)
    _check_background(criterion, head)


def _check_scores(criterion: DenseCriterion, head: DenseHead) -> None:
    loss = criterion.cls_loss
    if loss.softmax != head.softmax:
        wants, has = ("softmax", "sigmoid") if loss.softmax else ("sigmoid", "softmax")
        soft, hard = wants_soft_scores(criterion, head), " --criterion.cls_target one"
        other = ("cross_entropy" + hard * soft) if head.softmax else "qfl" if soft else "focal"
        raise PartError(
            f"{type(loss).__name__} is a loss for {wants} scores, but the head has {has} scores: "
            f"choose --cls-loss {other}, or --head.scores {wants}{hard * (soft and not loss.takes_quality)}"
        )


def _check_target(criterion: DenseCriterion, head: DenseHead) -> None:
    """A soft target that was asked for, and that the class loss would not look at."""
    loss, asked = criterion.cls_loss, criterion.asked_cls_target
    if asked in ("iou", "assigner") and not loss.takes_quality:
        scores = "--head.scores sigmoid " if head.softmax else ""
        raise PartError(
            f"{type(loss).__name__} teaches every positive's class to score 1, but cls_target is {asked!r}: "
            f"choose {scores}--cls-loss qfl (or bce or vfl), or --criterion.cls_target one"
        )


def _check_levels(criterion: DenseCriterion, head: DenseHead) -> None:
    levels = len(head.priors.per_place)
    if criterion.level_weights and len(criterion.level_weights) != levels:
        raise PartError(
            f"criterion.level_weights has {len(criterion.level_weights)} numbers, but the head has {levels} levels: "
            "give one a level, fine to coarse"
        )


def _check_background(criterion: DenseCriterion, head: DenseHead) -> None:
    """Somebody must learn that most places hold nothing."""
    objectness = head.has_quality and criterion.quality_on == "used"
    if criterion.cls_on == "positives" and not objectness:
        raise PartError(
            "with cls_on=positives nothing learns background: add --head.quality box and --criterion.quality_on used "
            "(an objectness branch), or set --criterion.cls_on used"
        )
    if criterion.cls_on == "used" and head.softmax and head.columns == head.num_classes:
        raise PartError(
            "a softmax without a background column cannot learn background: set --criterion.cls_on positives, and "
            "teach an objectness branch"
        )
