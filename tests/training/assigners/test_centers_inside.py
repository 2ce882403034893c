"""A code of distances says no box that its prior's centre lies outside of: such positives are ignored."""

from __future__ import annotations

import pytest
import torch

from torso.data.targets import Targets
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.coders.distribution import DistributionCoder
from torso.geometry.coders.ltrb import LTRBCoder
from torso.geometry.priors.points import Points
from torso.geometry.priors.shapes import Shapes
from torso.training.assigners._base import Assigner
from torso.training.assigners.atss import ATSSAssigner
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assigners.paa import PAAAssigner
from torso.training.assigners.simota import SimOTAAssigner
from torso.training.assigners.ssd import SSDAssigner
from torso.training.assigners.task_aligned import TaskAlignedAssigner
from torso.training.assigners.yolo_v5 import YOLOv5Assigner
from torso.training.assignment import IGNORED, Assignment, Pairs
from torso.training.matching import with_centers_inside
from torso.types import Priors

SMALL, LARGE = [29.0, 29.0, 34.5, 34.5], [40.0, 20.0, 100.0, 90.0]


def targets() -> Targets:
    on = torch.ones(1, 2, dtype=torch.bool)
    return Targets(torch.tensor([[SMALL, LARGE]]), torch.zeros(1, 2, dtype=torch.int64), on, ~on)


def points() -> Priors:
    made: Priors = Points([(8, 8), (16, 16)])([(16, 16), (8, 8)], (128, 128))
    return made


def outside(target: torch.Tensor, priors: Priors) -> torch.Tensor:
    target_boxes = targets().boxes[0][target.clamp(min=0)]
    inside = (priors.centers_xy > target_boxes[:, :2]) & (priors.centers_xy < target_boxes[:, 2:])
    return (target >= 0) & ~inside.all(-1)


def answer_of(rule: Assigner, priors: Priors) -> Assignment | Pairs:
    boxes = torch.lerp(priors.boxes, torch.tensor(LARGE), 0.5)[None]
    boxes[0, ::3] = torch.tensor(SMALL) + 1
    return rule(priors, targets(), boxes, torch.full((1, boxes.shape[1], 2), 0.3))


def test_coders_say_what_they_cannot() -> None:
    assert LTRBCoder(transform="exp").holds_center
    assert LTRBCoder(transform="relu").holds_center
    assert not LTRBCoder(transform="none").holds_center
    assert DistributionCoder().holds_center
    assert not DeltaCoder().holds_center


@pytest.mark.parametrize(
    "rule", [MaxIoUAssigner(), SSDAssigner(), PAAAssigner(), SimOTAAssigner()], ids=lambda rule: type(rule).__name__
)
def test_positives_outside_their_truth_are_ignored(rule: Assigner) -> None:
    priors = points()
    answer = answer_of(rule, priors)
    assert isinstance(answer, Assignment)
    wrong = outside(answer.target[0], priors)
    assert wrong.any()
    assert not rule.centers_inside
    kept = with_centers_inside(answer, priors, targets())
    assert isinstance(kept, Assignment)
    assert (kept.target[0][wrong] == IGNORED).all()
    assert torch.equal(kept.target[0][~wrong], answer.target[0][~wrong])
    if kept.quality is not None and answer.quality is not None:
        assert (kept.quality[0][wrong] == 0).all()
        assert torch.equal(kept.quality[0][~wrong], answer.quality[0][~wrong])


@pytest.mark.parametrize(
    "rule", [ATSSAssigner(), FCOSAssigner(), TaskAlignedAssigner()], ids=lambda rule: type(rule).__name__
)
def test_rules_that_keep_inside_say_so(rule: Assigner) -> None:
    priors = points()
    answer = answer_of(rule, priors)
    assert isinstance(answer, Assignment)
    assert rule.centers_inside
    assert (answer.target >= 0).any()
    assert not outside(answer.target[0], priors).any()


def test_pairs_outside_their_truth_count_nothing() -> None:
    priors = Shapes([(8, 8)], sizes=(((8.0, 8.0), (60.0, 60.0)),))([(16, 16)], (128, 128))
    answer = answer_of(YOLOv5Assigner(), priors)
    assert isinstance(answer, Pairs)
    kept = with_centers_inside(answer, priors, targets())
    assert isinstance(kept, Pairs)
    target_boxes, center = targets().boxes[0][answer.target[0]], priors.centers_xy[answer.prior[0]]
    inside = ((center > target_boxes[:, :2]) & (center < target_boxes[:, 2:])).all(-1)
    assert torch.equal(kept.weight[0], answer.weight[0] * inside)
    assert 0 < kept.weight.sum() < answer.weight.sum()


def test_compiles_whole() -> None:
    priors, target_boxes = points(), targets()
    answer = answer_of(MaxIoUAssigner(), priors)
    torch.compiler.reset()
    run = torch.compile(lambda a: with_centers_inside(a, priors, target_boxes), fullgraph=True, backend="aot_eager")
    assert torch.equal(run(answer)[0], with_centers_inside(answer, priors, target_boxes)[0])
