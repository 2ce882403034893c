"""A dense criterion teaches no box that the head's codes cannot represent, and counts none ahead of the step either."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.coders.distribution import DistributionCoder
from torso.geometry.coders.ltrb import LTRBCoder
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.parts import Part, part
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assigners.paa import PAAAssigner
from torso.training.assigners.simota import SimOTAAssigner
from torso.training.assigners.ssd import SSDAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.iou import GIoULoss
from torso.training.matching import matches_of
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.types import DensePredictions, FeatureSpec, Images

SPECS = tuple(FeatureSpec(8, (s, s)) for s in (8, 16))
IMAGES = Images(torch.zeros(1, 3, 128, 128), torch.full((1, 2), 128.0), torch.ones(1, 4))
ON = torch.ones(1, 2, dtype=torch.bool)
TARGETS = Targets(
    torch.tensor([[[29.0, 29.0, 34.5, 34.5], [40.0, 20.0, 100.0, 90.0]]]), torch.zeros(1, 2).long(), ON, ~ON
)


def predictions(coder: Part[Any]) -> tuple[DenseHead, DensePredictions]:
    torch.manual_seed(0)
    head = DenseHead(SPECS, num_classes=2, channels=8, tower=1, finest=8, coarsest=16, priors=part(Points), coder=coder)
    return head, head([torch.randn(1, 8, 16, 16), torch.randn(1, 8, 8, 8)], IMAGES)


def criterion_of(assigner: Part[Any]) -> DenseCriterion:
    return DenseCriterion(
        assigner=assigner,
        cls=part(ClassificationTerm, loss=part(BCELoss)),
        box=part(BoxTerm, loss=part(GIoULoss)),
    )


def outside(target: Tensor, raw: DensePredictions) -> Tensor:
    """[1, N]: the prior's centre lies outside the target of this row."""
    target_boxes, center = TARGETS.boxes[0][target[0]], raw.priors.centers_xy
    return ~((center > target_boxes[:, :2]) & (center < target_boxes[:, 2:])).all(-1)[None]


CODERS = (part(LTRBCoder), part(LTRBCoder, transform="relu"), part(DistributionCoder))
RULES = (part(MaxIoUAssigner), part(SSDAssigner), part(PAAAssigner), part(SimOTAAssigner))


@pytest.mark.parametrize(
    ("assigner", "coder"),
    [
        (a, c) for a in RULES for c in CODERS if (a.target, c.target) != (PAAAssigner, DistributionCoder)
    ],  # it asks for none here
    ids=repr,
)
def test_what_a_code_cannot_say_is_ignored(assigner: Part[Any], coder: Part[Any]) -> None:
    head, raw = predictions(coder)
    criterion = criterion_of(assigner)
    criterion.check_head(head)
    matches = criterion.matches(raw, TARGETS, head)
    head.coder.holds_center = False
    asked = criterion.matches(raw, TARGETS, head)
    assert (asked.positive & outside(asked.target, raw)).any()
    assert not (matches.positive & outside(matches.target, raw)).any()
    if not criterion.assigner.needs_predictions:
        free = matches_of(criterion.assigner(raw.priors, TARGETS), raw.priors)
        center_outside = free.positive & outside(free.target, raw)
        assert center_outside.any()
        assert not matches.used[center_outside].any()
        assert torch.equal(matches.used | center_outside, free.used)


def test_other_codes_say_them() -> None:
    head, raw = predictions(part(DeltaCoder))
    matches = criterion_of(part(MaxIoUAssigner)).matches(raw, TARGETS, head)
    assert (matches.positive & outside(matches.target, raw)).any()


def test_counts_ahead_are_those_of_the_step() -> None:
    head, raw = predictions(part(LTRBCoder))
    criterion, model = criterion_of(part(MaxIoUAssigner)), SimpleNamespace(head=head)
    ahead = criterion.counts(model, IMAGES, TARGETS, [(16, 16), (8, 8)])  # type: ignore[arg-type]
    for name, term in criterion.terms(raw, TARGETS, head).items():
        assert float(ahead[name]) == float(term.count) > 0


def test_targets_without_a_row_are_background() -> None:
    head, raw = predictions(part(LTRBCoder))
    none = Targets(*(field[:, :0] for field in TARGETS[:4]))
    criterion, model = criterion_of(part(MaxIoUAssigner)), SimpleNamespace(head=head)
    terms = criterion.terms(raw, none, head)
    assert terms["cls"].total > 0
    assert terms["box"].total == 0
    ahead = criterion.counts(model, IMAGES, none, [(16, 16), (8, 8)])  # type: ignore[arg-type]
    assert {name: float(term.count) for name, term in terms.items()} == {k: float(v) for k, v in ahead.items()}
