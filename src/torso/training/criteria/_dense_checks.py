"""Which combinations of parts the dense criterion refuses, with the reason and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torso.geometry.coders.yolo import YOLO
from torso.heads.dense import Dense as DenseHead
from torso.parts import PartError
from torso.training.criteria._uncertainty import check_uncertainty

if TYPE_CHECKING:
    from torso.training.criteria.dense import Dense


def check_numbers(criterion: Dense) -> None:
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


def check_combination(criterion: Dense, head: DenseHead) -> None:
    """Raise PartError where this criterion cannot train this head."""
    criterion.assigner.check(head)
    _check_scores(criterion, head)
    _check_boxes(criterion, head)
    _check_background(criterion, head)
    _check_quality(criterion, head)


def _check_scores(criterion: Dense, head: DenseHead) -> None:
    loss = criterion.cls_loss
    if loss.softmax != head.softmax:
        wants, has = ("softmax", "sigmoid") if loss.softmax else ("sigmoid", "softmax")
        raise PartError(
            f"{type(loss).__name__} is a loss for {wants} scores, but the head has {has} scores: "
            f"choose --cls-loss {'cross_entropy' if head.softmax else 'focal'}, or --head.scores {wants}"
        )


def _check_boxes(criterion: Dense, head: DenseHead) -> None:
    if head.coder.bins and criterion.box_loss.space == "codes":
        raise PartError(
            f"{type(criterion.box_loss).__name__} compares codes, but this head's coder predicts a distribution for "
            "each side, which the dfl term teaches: choose --box-loss giou (or another of the IoU family)"
        )
    check_uncertainty(criterion.box_loss, head)
    if isinstance(head.coder, YOLO) and not criterion.assigner.at_cell:
        raise PartError(
            f"{type(criterion.assigner).__name__} gives a truth to priors of several cells, but the yolo coder says "
            "only centres in a prior's own cell: choose --head.coder delta, or --assigner yolo_v3"
        )
    levels = len(head.priors.per_place)
    if criterion.level_weights and len(criterion.level_weights) != levels:
        raise PartError(
            f"criterion.level_weights has {len(criterion.level_weights)} numbers, but the head has {levels} levels: "
            "give one a level, fine to coarse"
        )


def _check_background(criterion: Dense, head: DenseHead) -> None:
    """Somebody must learn that most places hold nothing, and of several truths a prior one class column cannot."""
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
    if not criterion.assigner.gives_pairs:
        return
    who = type(criterion.assigner).__name__
    if criterion.cls_on == "used":
        raise PartError(
            f"{who} gives a prior several truths, so classes are learnt a pair and background by an objectness branch: "
            "add --criterion.cls_on positives --criterion.quality_on used --criterion.quality_target iou and "
            "--head.quality box, or choose an assigner of one truth a prior (yolo_v3, atss, simota)"
        )
    if criterion.sampler is not None:
        raise PartError(f"{who} gives pairs, which nothing samples: set --criterion.sampler none")


def _check_quality(criterion: Dense, head: DenseHead) -> None:
    """Soft targets that somebody wants of the assigner, and that it does not give."""
    if criterion.assigner.gives_quality:
        return
    from_assigner = head.has_quality and criterion.quality_target == "assigner"
    wanting = {
        "--head.quality none": from_assigner,
        "--criterion.box_weighting none": criterion.box_weighting == "quality",
        "--criterion.cls_target one": criterion.cls_target == "assigner",
        "--criterion.normaliser positives": "quality" in (criterion.normaliser, criterion.quality_normaliser),
    }
    remedy = " ".join(flag for flag, needed in wanting.items() if needed)
    if remedy:
        who = "quality branch of the head" if from_assigner else "weighting of the boxes"
        if not from_assigner and criterion.box_weighting != "quality":
            who = "class loss or its normaliser"
        raise PartError(
            f"{type(criterion.assigner).__name__} gives no soft targets, which the {who} learns from: "
            f"add {remedy}, or choose --assigner fcos or atss"
        )
