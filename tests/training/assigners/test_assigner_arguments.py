"""Assigners refuse numbers and words that mean nothing; also where no Part checks their types."""

from __future__ import annotations

from typing import Any

import pytest

from torso.training.assigners.atss import ATSSAssigner
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.gaussian import GaussianAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assigners.paa import PAAAssigner
from torso.training.assigners.simota import SimOTAAssigner
from torso.training.assigners.ssd import SSDAssigner
from torso.training.assigners.task_aligned import TaskAlignedAssigner
from torso.training.assigners.yolo_v3 import YOLOv3Assigner
from torso.training.assigners.yolo_v5 import YOLOv5Assigner


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        (MaxIoUAssigner, {"rescue_above": 2.0}, r"rescue_above: expected a number from 0 to 1, got 2\.0"),
        (MaxIoUAssigner, {"rescue_above": -1.0}, "rescue_above"),
        (MaxIoUAssigner, {"rescue_learns": "x"}, "expected one of 'most', 'rescued', got 'x'"),
        (PAAAssigner, {"alpha": 2.0}, r"alpha: expected a number from 0 to 1, got 2\.0"),
        (PAAAssigner, {"gamma": -1.0}, "gamma"),
        (PAAAssigner, {"box_weight": -1.0}, "box_weight"),
        (PAAAssigner, {"point_scale": 0.0}, "PAAAssigner.point_scale: expected a number above 0"),
        (SimOTAAssigner, {"inside": "any"}, "expected one of 'either', 'center', got 'any'"),
        (TaskAlignedAssigner, {"alpha": 0.0, "beta": 0.0}, "expected alpha or beta above 0, got 0 for both"),
        (TaskAlignedAssigner, {"compete": "some"}, "expected one of 'all', 'inside', got 'some'"),
        (TaskAlignedAssigner, {"overlap": "iuo"}, "expected one of 'iou', 'giou', 'diou', 'ciou', got 'iuo'"),
        (GaussianAssigner, {"shared_cell": "first"}, "expected one of 'all', 'last', got 'first'"),
        (GaussianAssigner, {"min_overlap": 1.0}, r"expected a number above 0 and below 1, got 1\.0"),
        (MaxIoUAssigner, {"negative": 0.6}, "positive: expected a number of at least negative=0.6, got 0.5"),
        (ATSSAssigner, {"candidates": 1}, "candidates: expected a whole number of at least 2, got 1"),
        (FCOSAssigner, {"radius": -1.0}, "radius: expected a number of at least 0"),
        (SSDAssigner, {"threshold": 0.0}, "threshold: expected a number above 0 and at most 1"),
        (YOLOv3Assigner, {"extra_iou": 1.0}, "extra_iou: expected a number of at least 0 and below 1 or none"),
        (YOLOv5Assigner, {"max_ratio": 1.0}, "max_ratio: expected a number above 1"),
    ],
)
def test_refused(kind: type, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**arguments)
