"""Assigners refuse numbers and words that mean nothing; also where no Part checks their types."""

from __future__ import annotations

from typing import Any

import pytest

from torso.training.assigners.gaussian import GaussianAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assigners.paa import PAAAssigner
from torso.training.assigners.simota import SimOTAAssigner
from torso.training.assigners.task_aligned import TaskAlignedAssigner


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        (MaxIoUAssigner, {"rescue_above": 2.0}, "rescue_above.*2.0 and"),
        (MaxIoUAssigner, {"rescue_above": -1.0}, "rescue_above"),
        (MaxIoUAssigner, {"rescue_learns": "x"}, "one of 'most', 'rescued', got 'x'"),
        (PAAAssigner, {"alpha": 2.0}, "alpha in 0..1.*2.0"),
        (PAAAssigner, {"gamma": -1.0}, "gamma"),
        (PAAAssigner, {"box_weight": -1.0}, "box_weight"),
        (PAAAssigner, {"point_scale": 0.0}, "PAA.*point_scale"),
        (SimOTAAssigner, {"inside": "any"}, "one of 'either', 'center', got 'any'"),
        (TaskAlignedAssigner, {"alpha": 0.0, "beta": 0.0}, "alpha or beta above 0"),
        (TaskAlignedAssigner, {"compete": "some"}, "one of 'all', 'inside', got 'some'"),
        (TaskAlignedAssigner, {"overlap": "iuo"}, "one of 'iou', 'giou', 'diou', 'ciou', got 'iuo'"),
        (GaussianAssigner, {"shared_cell": "first"}, "one of 'all', 'last', got 'first'"),
    ],
)
def test_refused(kind: type, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**arguments)
