"""Targets without a single row, which a caller's own collating may make, are images that are all background."""

from __future__ import annotations

import pytest
import torch

from torso.data.targets import Targets
from torso.geometry.priors.shapes import Shapes
from torso.training.assigners._base import Assigner
from torso.training.assigners.atss import ATSSAssigner
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.gaussian import GaussianAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assigners.paa import PAAAssigner
from torso.training.assigners.simota import SimOTAAssigner
from torso.training.assigners.ssd import SSDAssigner
from torso.training.assigners.task_aligned import TaskAlignedAssigner
from torso.training.assigners.yolo_v2 import YOLOv2Assigner
from torso.training.assigners.yolo_v3 import YOLOv3Assigner
from torso.training.assigners.yolo_v5 import YOLOv5Assigner
from torso.training.assignment import BACKGROUND, Assignment
from torso.types import Priors


def no_rows() -> Targets:
    flags = torch.zeros(2, 0, dtype=torch.bool)
    return Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), flags, flags)


def anchors() -> Priors:
    made: Priors = Shapes([(8, 8)], sizes=(((16.0, 16.0), (16.0, 32.0)),))([(4, 4)], (32, 32))
    return made


RULES: list[Assigner] = [
    ATSSAssigner(),
    FCOSAssigner(),
    MaxIoUAssigner(),
    PAAAssigner(iterations=2),
    SimOTAAssigner(),
    SSDAssigner(),
    TaskAlignedAssigner(),
    YOLOv2Assigner(),
    YOLOv3Assigner(),
    YOLOv5Assigner(),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_all_is_background(rule: Assigner) -> None:
    priors = anchors()
    answer = rule(priors, no_rows(), priors.boxes.expand(2, -1, -1), torch.full((2, 32, 3), 0.5))
    if isinstance(answer, Assignment):
        assert (answer.target == BACKGROUND).all()
        assert answer.quality is None or (answer.quality == 0).all()
    else:
        assert (answer.weight == 0).all()


def test_a_heatmap_is_blank() -> None:
    answer = GaussianAssigner()(anchors(), no_rows(), 3)
    assert (answer.heatmap == 0).all()
    assert (answer.pairs.weight == 0).all()
