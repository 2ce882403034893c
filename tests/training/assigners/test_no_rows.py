"""Targets without a single row, which a caller's own collating may make, are pictures that are all background."""

from __future__ import annotations

import pytest
import torch

from torso.geometry.priors.shapes import Shapes
from torso.training.assigners._base import Assigner
from torso.training.assigners.atss import ATSS
from torso.training.assigners.fcos import FCOS
from torso.training.assigners.gaussian import Gaussian
from torso.training.assigners.max_iou import MaxIoU
from torso.training.assigners.paa import PAA
from torso.training.assigners.simota import SimOTA
from torso.training.assigners.ssd import SSD
from torso.training.assigners.task_aligned import TaskAligned
from torso.training.assigners.yolo_v2 import YOLOv2
from torso.training.assigners.yolo_v3 import YOLOv3
from torso.training.assigners.yolo_v5 import YOLOv5
from torso.training.targets import BACKGROUND, Assignment, Targets
from torso.types import Priors


def no_rows() -> Targets:
    flags = torch.zeros(2, 0, dtype=torch.bool)
    return Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), flags, flags)


def anchors() -> Priors:
    made: Priors = Shapes([(8, 8)], sizes=(((16.0, 16.0), (16.0, 32.0)),))([(4, 4)], (32, 32))
    return made


RULES: list[Assigner] = [
    ATSS(), FCOS(), MaxIoU(), PAA(iterations=2), SimOTA(), SSD(), TaskAligned(), YOLOv2(), YOLOv3(), YOLOv5()
]  # fmt: skip


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
    answer = Gaussian()(anchors(), no_rows(), 3)
    assert (answer.heatmap == 0).all()
    assert (answer.pairs.weight == 0).all()
