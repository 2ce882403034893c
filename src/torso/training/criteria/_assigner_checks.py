"""What an assigner lacks in the rest of a dense recipe, and one set of flags that brings all of it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torso.geometry.coders.yolo import YOLOCoder
from torso.heads.dense import DenseHead
from torso.parts import PartError, find, names
from torso.training.assigners._base import Assigner, Lack
from torso.training.losses.yolo_box import YOLOBoxLoss

if TYPE_CHECKING:
    from torso.training.criteria.dense import DenseCriterion

_NAMED = 4  # of the assigners that fit, a sentence names so many


def check_assigner(criterion: DenseCriterion, head: DenseHead) -> None:
    """Raise PartError where the criterion's assigner means nothing for this head, or lacks something.

    The message holds every reason, and either the flags that mend all of them or only the assigners that go with it.
    """
    lacks = _lacks(criterion, head)
    if not lacks:
        return
    who, reasons = type(criterion.assigner).__name__, "; and it ".join(lack.reason for lack in lacks)
    remedies = [f"add {flags}" for flags in _ways(criterion, head)]
    fitting = _fitting(criterion, head)[:_NAMED]
    if fitting:
        remedies.append(f"choose --assigner {' or '.join(fitting)}")
    raise PartError(f"{who} {reasons}: {', or '.join(remedies) or 'choose another head'}")


def _ways(criterion: DenseCriterion, head: DenseHead) -> list[str]:
    """Sets of flags of which each brings all that is lacking; [] where no flags do."""
    lacks = _lacks(criterion, head)
    if not all(lack.flags for lack in lacks):
        return []
    ways = [[flag for lack in lacks for flag in lack.flags]]
    if _score_lacks(criterion, head):
        hard = copy.copy(criterion)
        hard.asked_cls_target = "one"
        ways.append([*(flag for lack in _lacks(hard, head) for flag in lack.flags), "--criterion.cls_target one"])
    return [" ".join(dict.fromkeys(flags)) for flags in ways]


def _lacks(criterion: DenseCriterion, head: DenseHead) -> list[Lack]:
    assigner = criterion.assigner
    return [*assigner.lacks(head), *_cell_lacks(criterion, head), *_pair_lacks(criterion, head),
            *_quality_lacks(criterion, head), *_score_lacks(criterion, head)]  # fmt: skip


def _fitting(criterion: DenseCriterion, head: DenseHead) -> list[str]:
    """Names of the assigners that lack nothing in this recipe."""
    found = []
    for name in names("assigners"):
        assigner = find(name, "assigners")()
        if isinstance(assigner, Assigner):
            other = copy.copy(criterion)
            other.assigner = assigner
            if not _lacks(other, head):
                found.append(name)
    return found


def _cell_lacks(criterion: DenseCriterion, head: DenseHead) -> list[Lack]:
    if criterion.assigner.at_cell or not isinstance(head.coder, YOLOCoder):
        return []
    loss = (
        ["--box-loss smooth_l1"] if isinstance(criterion.box_loss, YOLOBoxLoss) else []
    )  # it reads codes of that coder
    return [
        Lack(
            "gives a truth to priors of several cells, but the yolo coder says only centres in a prior's own cell",
            ("--head.coder delta", *loss),
        )
    ]


def _pair_lacks(criterion: DenseCriterion, head: DenseHead) -> list[Lack]:
    """Of several truths a prior, one class column cannot say which: background is an objectness branch's."""
    if not criterion.assigner.gives_pairs:
        return []
    lacks = []
    wanting = {
        "--head.quality box": not head.has_quality,
        "--criterion.cls_on positives": criterion.cls_on == "used",
        "--criterion.quality_on used": criterion.quality_on != "used",
        "--criterion.quality_target iou": criterion.quality_target == "assigner",
    }
    if any(wanting.values()):
        reason = "gives a prior several truths, so classes are learnt a pair and background by an objectness branch"
        lacks.append(Lack(reason, tuple(flag for flag, needed in wanting.items() if needed)))
    if criterion.sampler is not None:
        lacks.append(Lack("gives pairs, which nothing samples", ("--sampler none",)))
    return lacks


def _quality_lacks(criterion: DenseCriterion, head: DenseHead) -> list[Lack]:
    """Soft targets that somebody wants of the assigner, and that it does not give."""
    if criterion.assigner.gives_quality:
        return []
    from_assigner = head.has_quality and criterion.quality_target == "assigner" and not criterion.assigner.gives_pairs
    objectness = criterion.quality_on == "used"  # which must stay, with another target
    wanting = {
        "--head.quality none": from_assigner and not objectness,
        "--criterion.quality_target iou": from_assigner and objectness,
        "--criterion.box_weighting none": criterion.box_weighting == "quality",
        "--criterion.cls_target one": criterion.cls_target == "assigner",
        "--criterion.normaliser positives": criterion.normaliser == "quality",
        "--criterion.quality_normaliser positives": criterion.quality_normaliser == "quality" != criterion.normaliser,
    }
    flags = tuple(flag for flag, needed in wanting.items() if needed)
    if not flags:
        return []
    who = "quality branch of the head" if from_assigner else "weighting of the boxes"
    if not from_assigner and criterion.box_weighting != "quality":
        who = "class loss or its normaliser"
    return [Lack(f"gives no soft targets, which the {who} learns from", flags)]


def wants_soft_scores(criterion: DenseCriterion, head: DenseHead) -> bool:
    """Whether positives' classes are to score less than 1: as asked, or by an assigner whose score no branch learns."""
    if criterion.asked_cls_target is not None:
        return criterion.asked_cls_target != "one"
    branch = head.has_quality and criterion.quality_target == "assigner"
    return criterion.assigner.quality_is_score and not branch


def _score_lacks(criterion: DenseCriterion, head: DenseHead) -> list[Lack]:
    """A score that nobody learns: neither the class, whose loss takes none, nor a quality branch."""
    loss = criterion.cls_loss
    if loss.takes_quality or criterion.asked_cls_target or not wants_soft_scores(criterion, head):
        return []
    reason = f"says what a positive's class should score, but {type(loss).__name__} teaches every positive 1"
    return [Lack(reason, (*(["--head.scores sigmoid"] if head.softmax else []), "--cls-loss qfl"))]
