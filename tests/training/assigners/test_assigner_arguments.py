"""Assigners refuse numbers and words that mean nothing; also where no Part checks their types."""

from __future__ import annotations

from typing import Any

import pytest

from torso.training.assigners.gaussian import Gaussian
from torso.training.assigners.max_iou import MaxIoU
from torso.training.assigners.paa import PAA
from torso.training.assigners.simota import SimOTA
from torso.training.assigners.task_aligned import TaskAligned


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        (MaxIoU, {"rescue_above": 2.0}, "rescue_above.*2.0 and"),
        (MaxIoU, {"rescue_above": -1.0}, "rescue_above"),
        (MaxIoU, {"rescue_learns": "x"}, "'x'.*most, rescued"),
        (PAA, {"alpha": 2.0}, "alpha in 0..1.*2.0"),
        (PAA, {"gamma": -1.0}, "gamma"),
        (PAA, {"box_weight": -1.0}, "box_weight"),
        (PAA, {"point_scale": 0.0}, "PAA.*point_scale"),
        (SimOTA, {"inside": "any"}, "'any'.*either, center"),
        (TaskAligned, {"alpha": 0.0, "beta": 0.0}, "alpha or beta above 0"),
        (TaskAligned, {"compete": "some"}, "'some'.*all, inside"),
        (TaskAligned, {"overlap": "iuo"}, "'iuo'.*iou, giou"),
        (Gaussian, {"shared_cell": "first"}, "'first'.*all, last"),
    ],
)
def test_refused(kind: type, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**arguments)
