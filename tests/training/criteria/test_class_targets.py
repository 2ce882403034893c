"""What a positive's class should score: learnt where the loss takes it, refused with a way out where it does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training.criteria.settings import dense

from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.parts import PartError, find, names, part
from torso.training.assigners.simota import SimOTAAssigner
from torso.training.assigners.task_aligned import TaskAlignedAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses._base import ClassLoss
from torso.training.losses.bce import BCELoss
from torso.training.losses.cross_entropy import CrossEntropyLoss
from torso.training.losses.focal import FocalLoss
from torso.training.losses.iou import GIoULoss
from torso.training.losses.qfl import QFLLoss
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.quality import QualityTerm
from torso.types import FeatureSpec

SPECS = tuple(FeatureSpec(8, (s, s)) for s in (8, 16))
ANCHORS = part(Anchors, base_scale=2.0, octave_scales=1, ratios=(0.5, 1.0, 2.0), offset=0.5)
CLASS_LOSSES = [n for n in names("losses") if issubclass(find(n, "losses"), ClassLoss)]


def head(**more: Any) -> DenseHead:
    shape = {"num_classes": 3, "channels": 8, "tower": 1, "finest": 8, "coarsest": 16, "priors": part(Points)}
    return DenseHead(SPECS, **{**shape, **more})


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_every_class_loss_says_truly_whether_it_takes_quality(name: str) -> None:
    loss = find(name, "losses")()
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    looks = not torch.equal(loss(logits, labels, torch.full((6,), 0.3)), loss(logits, labels))
    assert looks is loss.takes_quality
    assert loss.takes_quality or not loss.soft


@pytest.mark.parametrize("assigner", [SimOTAAssigner, TaskAlignedAssigner])
def test_the_assigners_score_is_learnt_by_a_loss_that_takes_it(assigner: type) -> None:
    for loss in (BCELoss, QFLLoss):
        criterion = DenseCriterion(
            assigner=part(assigner),
            cls=part(ClassificationTerm, loss=part(loss)),
            box=part(BoxTerm, loss=part(GIoULoss)),
        )
        criterion.check_head(head())
        assert criterion.cls.target == "assigner"


@pytest.mark.parametrize("assigner", [SimOTAAssigner, TaskAlignedAssigner])
def test_it_is_not_dropped_in_silence(assigner: type) -> None:
    criterion = DenseCriterion(
        assigner=part(assigner),
        cls=part(ClassificationTerm, loss=part(FocalLoss)),
        box=part(BoxTerm, loss=part(GIoULoss)),
    )
    said = r"should score, but FocalLoss teaches every positive 1: set criterion.cls.loss='qfl', "
    with pytest.raises(PartError, match=said + r"or set criterion\.cls\.target='one', or set criterion\.assigner="):
        criterion.check_head(head())
    criterion = DenseCriterion(
        assigner=part(assigner),
        cls=part(ClassificationTerm, loss=part(CrossEntropyLoss)),
        box=part(BoxTerm, loss=part(GIoULoss)),
    )
    with pytest.raises(
        PartError, match=r"set head\.scores='sigmoid' and criterion\.cls\.loss='qfl', or set criterion\.cls"
    ):
        criterion.check_head(head(scores="softmax"))


def test_a_quality_branch_may_learn_it_instead_and_the_class_then_learns_one() -> None:
    criterion = DenseCriterion(
        assigner=part(SimOTAAssigner),
        cls=part(ClassificationTerm, loss=part(FocalLoss)),
        box=part(BoxTerm, loss=part(GIoULoss)),
    )
    criterion.check_head(head(quality="box"))
    assert criterion.cls.target == "one"
    other = DenseCriterion(
        assigner=part(SimOTAAssigner),
        cls=part(ClassificationTerm, loss=part(FocalLoss)),
        box=part(BoxTerm, loss=part(GIoULoss)),
        quality=part(QualityTerm, target="giou"),
    )
    with pytest.raises(PartError, match=r"set criterion\.cls\.loss='qfl'"):
        other.check_head(head(quality="box"))


@pytest.mark.parametrize("target", ["iou", "assigner"])
def test_a_target_that_was_asked_for_is_learnt_or_refused(target: Any) -> None:
    rule: dict[str, Any] = {"assigner": part(SimOTAAssigner), "box.loss": part(GIoULoss), "cls.target": target}
    dense({**rule, "cls.loss": part(BCELoss)}).check_head(head())
    said = rf"FocalLoss teaches .* but criterion\.cls\.target is '{target}': set criterion\.cls\.loss='qfl', or "
    with pytest.raises(PartError, match=said + r"set criterion\.cls\.target='one'$"):
        dense({**rule, "cls.loss": part(FocalLoss)}).check_head(head())
    with pytest.raises(PartError, match=r"set head\.scores='sigmoid' and criterion\.cls\.loss='qfl'"):
        dense({**rule, "cls.loss": part(CrossEntropyLoss)}).check_head(head(scores="softmax"))


def test_one_may_be_asked_for() -> None:
    for loss, scores in ((FocalLoss, "sigmoid"), (CrossEntropyLoss, "softmax")):
        rule = DenseCriterion(
            assigner=part(TaskAlignedAssigner),
            cls=part(ClassificationTerm, loss=part(loss), target="one"),
            box=part(BoxTerm, loss=part(GIoULoss)),
        )
        rule.check_head(head(scores=scores))


def test_flags_for_a_score_and_for_all_else_that_is_lacking_come_together() -> None:
    """A second refusal after the first one's advice would be one too many."""
    criterion = DenseCriterion(
        assigner=part(TaskAlignedAssigner),
        cls=part(ClassificationTerm, loss=part(FocalLoss)),
        box=part(BoxTerm, loss=part(GIoULoss)),
    )
    with pytest.raises(PartError, match=r"'delta' and criterion\.cls\.loss='qfl', or set head\.coder='delta' and crit"):
        criterion.check_head(head(priors=ANCHORS, coder=part(YOLOCoder)))
