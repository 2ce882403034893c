"""Points are matched as boxes of several strides, because their generator says that they are points; boxes never."""

from __future__ import annotations

import pytest
import torch

from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.points import Points
from torso.geometry.priors.shapes import Shapes
from torso.heads._roi_proposals import roi_priors
from torso.training.assigners._base import boxes_to_match
from torso.types import Priors


def one_level(*sizes: tuple[float, float]) -> Priors:
    return Shapes([(8, 8)], sizes=(sizes,))([(2, 2)], (16, 16))


def two_levels() -> Priors:
    sizes = (((8.0, 8.0),), ((16.0, 16.0), (32.0, 64.0)))
    return Shapes([(8, 8), (16, 16)], sizes=sizes)([(2, 2), (1, 1)], (16, 16))


@pytest.mark.parametrize(
    "priors",
    [
        one_level((8.0, 24.0)),
        one_level((24.0, 8.0)),
        one_level((8.0, 8.0)),
        two_levels(),
        Anchors([(8, 8)], base_scale=1.0, octave_scales=1, ratios=(1.0,))([(2, 2)], (16, 16)),
        roi_priors(torch.tensor([[[0.0, 0.0, 8.0, 8.0]]])),
    ],
    ids=["tall", "wide", "square", "another level has one", "anchors", "regions"],
)
def test_a_box_of_a_stride_is_matched_as_it_is(priors: Priors) -> None:
    assert torch.equal(boxes_to_match(priors, 8.0), priors.boxes)


@pytest.mark.parametrize("stride_from", ["feature", "image"])
def test_a_point_is_matched_as_a_box_of_several_strides(stride_from: str) -> None:
    points = Points([(8, 16), (16, 16)], stride_from=stride_from)([(2, 1), (1, 1)], (16, 16))  # type: ignore[arg-type]
    matched = boxes_to_match(points, 4.0)
    assert (matched[:, 2:] - matched[:, :2]).tolist() == [[64, 32], [64, 32], [64, 64]]
    assert torch.equal((matched[:, 2:] + matched[:, :2]) / 2, points.centers_xy)


def test_points_stay_points_in_a_compiled_graph() -> None:
    def corners(offset: torch.Tensor) -> torch.Tensor:
        priors = Points([(8, 8)])([(2, 2)], (16, 16))
        return boxes_to_match(priors._replace(centers_xy=priors.centers_xy + offset), 8.0)

    compiled = torch.compile(corners, fullgraph=True, backend="eager")
    found = compiled(torch.zeros(2))
    assert torch.equal(found, corners(torch.zeros(2)))
    assert (found[:, 2:] - found[:, :2] == 64).all()  # eight strides
