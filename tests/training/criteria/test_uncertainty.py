"""Uncertainty from head to candidates: KL in both criteria, how it starts, what is refused, variances in pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training.small import freeze_unused

from torso.backbones.timm import Timm
from torso.data.targets import Targets
from torso.engine.step import TrainStep
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors._base import gather_priors
from torso.heads._roi_proposals import roi_priors
from torso.heads.faster_rcnn import FasterRCNNHead
from torso.heads.rpn import RPNHead
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import PartError, part
from torso.suppression.nms import NMS
from torso.suppression.softer_nms import SofterNMS
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.criteria._base import Criterion, loss_of
from torso.training.criteria.dense import DenseCriterion
from torso.training.criteria.two_stage import TwoStageCriterion
from torso.training.losses.iou import GIoULoss
from torso.training.losses.kl import KLLoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.terms.box import BoxTerm
from torso.types import Images, Priors
from torso.zoo.fcos import FCOSHead
from torso.zoo.retinanet import RetinaNetHead

IMAGES = Images(
    torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(1)) * 255,
    torch.tensor([[96.0, 128.0], [80.0, 101.0]]),
    torch.zeros(2, 4),
)
TARGETS = Targets(
    torch.tensor([[[4.0, 6, 40, 50], [50, 30, 90, 80]], [[10, 20, 70, 60], [0, 0, 1, 1]]]),
    torch.tensor([[0, 2], [1, 0]]),
    torch.tensor([[True, True], [True, False]]),
    torch.zeros(2, 2, dtype=torch.bool),
)


def model(head: type, **arguments: Any) -> Detector:
    torch.manual_seed(0)
    finest, coarsest = (4, 64) if head is FasterRCNNHead else (8, 128)
    own = {"num_classes": 3, "channels": 16, "uncertainty": True, **({} if head is FasterRCNNHead else {"tower": 1})}
    suppression = arguments.pop("suppression", part(NMS))
    return Detector(
        backbone=part(Timm, name="test_resnet", frozen_norm=True),
        neck=part(FPN, channels=16, finest=finest, coarsest=coarsest, extra="pool"),
        head=part(head, **{**own, **arguments}),
        suppression=suppression,
    )


CASES: dict[str, tuple[type, Criterion]] = {
    "retinanet": (RetinaNetHead, DenseCriterion(box=part(BoxTerm, loss=part(KLLoss)))),
    "fcos": (
        FCOSHead,
        DenseCriterion(assigner=part(FCOSAssigner), box=part(BoxTerm, loss=part(KLLoss), weighting="quality")),
    ),
    "faster_rcnn": (FasterRCNNHead, TwoStageCriterion(box=part(BoxTerm, loss=part(KLLoss)))),
}


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_of_the_branch_learns(name: str) -> None:
    head, criterion = CASES[name]
    detector = model(head)
    criterion.check(detector)
    loss, shares = loss_of(criterion(detector, IMAGES, TARGETS))
    loss.backward()
    assert "box" in shares
    branch = [(n, p) for n, p in detector.head.named_parameters() if "variance_out" in n]
    assert branch
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for _, p in branch)
    assert not any("variance_out" in n for n in freeze_unused(TrainStep(detector, criterion)))


@pytest.mark.parametrize("name", CASES)
def test_starts_as_smooth_l1(name: str) -> None:
    """Log variances within a few thousandths of 0 (std 1e-4, mean 0), so that the loss is smooth L1 with beta 1."""
    head, criterion = CASES[name]
    detector = model(head)
    weights = [p for n, p in detector.head.named_parameters() if n.endswith("variance_out.weight")]
    assert all(0.5e-4 < float(w.detach().std()) < 2e-4 for w in weights)
    plain = model(head, uncertainty=False)
    plain.load_state_dict({k: v for k, v in detector.state_dict().items() if "variance_out" not in k})
    same = (
        type(criterion)(box=part(BoxTerm, loss=part(SmoothL1Loss)))
        if name != "fcos"
        else DenseCriterion(
            assigner=part(FCOSAssigner), box=part(BoxTerm, loss=part(SmoothL1Loss), weighting="quality")
        )
    )
    with torch.no_grad():
        torch.manual_seed(1)
        ours = criterion(detector, IMAGES, TARGETS)["box"].total
        torch.manual_seed(1)
        theirs = (
            same if name != "faster_rcnn" else TwoStageCriterion(box=part(BoxTerm, loss=part(SmoothL1Loss, beta=1.0)))
        )(plain, IMAGES, TARGETS)["box"].total
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=1e-3)


def test_box_term_by_hand() -> None:
    detector = model(RetinaNetHead)
    with torch.no_grad():
        raw = detector(IMAGES)
        raw = raw._replace(log_variance=torch.randn_like(raw.log_variance), codes=torch.randn_like(raw.codes))
        term = DenseCriterion(box=part(BoxTerm, loss=part(KLLoss))).terms(raw, TARGETS, detector.head)["box"]  # type: ignore[arg-type]
    assigned = MaxIoUAssigner()(raw.priors, TARGETS).target
    total = 0.0
    for image, row in (assigned >= 0).nonzero().tolist():
        one = Priors(*(field[row] for field in raw.priors[:3]), levels=())
        want = DeltaCoder().encode(TARGETS.boxes[image, assigned[image, row]], one)
        for d, a in zip((raw.codes[image, row] - want).abs().tolist(), raw.log_variance[image, row], strict=True):
            total += float((-a).exp() * (d * d / 2 if d < 1 else d - 0.5) + a / 2)
    assert float(term.total) == pytest.approx(total, rel=1e-4)
    assert int(term.count) == int((assigned >= 0).sum())


@pytest.mark.parametrize("name", CASES)
def test_a_branch_and_a_loss_that_do_not_fit_are_refused(name: str) -> None:
    head, criterion = CASES[name]
    with pytest.raises(PartError, match=r"head\.uncertainty=True"):
        criterion.check(model(head, uncertainty=False))
    blind = (
        TwoStageCriterion()
        if name == "faster_rcnn"
        else DenseCriterion(box=part(BoxTerm, loss=part(GIoULoss)), assigner=part(FCOSAssigner))
    )
    with pytest.raises(PartError, match=r"criterion\.box\.loss='kl'"):
        blind.check(model(head))


def test_a_proposers_branch_is_its_own_criterions_affair() -> None:
    detector = model(FasterRCNNHead, uncertainty=False, proposer=part(RPNHead, uncertainty=True))
    with pytest.raises(PartError, match=r"the proposer: .*set criterion\.first\.box\.loss='kl'"):
        TwoStageCriterion().check(detector)


def test_second_stage_variance_is_that_of_the_right_class_in_pixels() -> None:
    detector = model(FasterRCNNHead, proposals=20, score_threshold=0.0)
    with torch.no_grad():
        raw = detector(IMAGES)
        raw = raw._replace(log_variance=torch.randn_like(raw.log_variance))
        found = detector.head.decode(raw, IMAGES)
    assert found.variance is not None
    real = found.scores > 0
    rows, labels = found.index.clamp(min=0), found.labels
    pair = (rows * 3 + labels)[..., None].expand(-1, -1, 4)
    codes, spread = (x.reshape(2, -1, 4).gather(1, pair) for x in (raw.codes, raw.log_variance))
    priors = gather_priors(roi_priors(raw.proposals.boxes), rows)
    wanted = DeltaCoder(weights=(10.0, 10.0, 5.0, 5.0)).decode_variance(spread.exp(), codes, priors)
    torch.testing.assert_close(found.variance[real], wanted[real])


@pytest.mark.parametrize("name", CASES)
def test_softer_nms_goes_with_every_family_and_wants_the_branch(name: str) -> None:
    head, _ = CASES[name]
    with torch.no_grad():
        found = model(head, suppression=part(SofterNMS), score_threshold=0.0).detect(IMAGES)
    assert found.variance is not None
    assert found.boxes.isfinite().all()
    assert (found.variance[found.scores > 0] > 0).all()
    with pytest.raises(ValueError, match=r"set head\.uncertainty=True and criterion\.box\.loss='kl'"):
        model(head, uncertainty=False, suppression=part(SofterNMS))
