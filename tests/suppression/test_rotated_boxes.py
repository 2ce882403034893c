"""Rotated boxes in every suppression, by an Overlap of their own: polygons are cut in plain Python."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from torso.geometry.overlaps import Overlap
from torso.parts import named
from torso.types import Candidates

Point = tuple[float, float]


def corners(box: list[float]) -> list[Point]:
    """Of centre x, y, width, height and angle in radians, one after the other with the inside on their left."""
    x, y, w, h, angle = box
    c, s = math.cos(angle), math.sin(angle)
    turns = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return [(x + (i * w * c - j * h * s) / 2, y + (i * w * s + j * h * c) / 2) for i, j in turns]


def area(polygon: list[Point]) -> float:
    """By the shoelace formula."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True)) / 2


def cut(polygon: list[Point], a: Point, b: Point) -> list[Point]:
    """What lies on the left of the line from a to b (Sutherland and Hodgman)."""
    left = [(b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) for p in polygon]
    kept: list[Point] = []
    for n, (point, side) in enumerate(zip(polygon, left, strict=True)):
        before, other = polygon[n - 1], left[n - 1]
        if (side >= 0) != (other >= 0):
            share = other / (other - side)
            kept.append((before[0] + share * (point[0] - before[0]), before[1] + share * (point[1] - before[1])))
        if side >= 0:
            kept.append(point)
    return kept


def rotated_iou(one: list[float], two: list[float]) -> float:
    """Of two boxes as corners() has them."""
    shared, edges = corners(one), corners(two)
    for a, b in zip(edges, edges[1:] + edges[:1], strict=True):
        shared = cut(shared, a, b)
    both = area(shared) if shared else 0.0
    return both / (one[2] * one[3] + two[2] * two[3] - both)


class RotatedIoU(Overlap):
    """rotated: [B, N, 5], a row a raw prediction: centre x, y, width, height, angle in radians."""

    def __init__(self, rotated: Tensor) -> None:
        self.rotated = rotated

    def __call__(self, a: Candidates, b: Candidates) -> Tensor:
        measured = torch.zeros(a.scores.shape[0], a.scores.shape[1], b.scores.shape[1])
        for image, boxes in enumerate(self.rotated.tolist()):
            for n, i in enumerate(a.index[image].tolist()):
                for m, j in enumerate(b.index[image].tolist()):
                    if i >= 0 and j >= 0:
                        measured[image, n, m] = rotated_iou(boxes[i], boxes[j])
        return measured


def around(rotated: Tensor) -> Tensor:
    """[B, N, 4]: the boxes, upright, that hold them."""
    x, y, w, h, angle = rotated.unbind(-1)
    c, s = angle.cos().abs(), angle.sin().abs()
    width, height = w * c + h * s, w * s + h * c
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)


def test_the_measure_by_hand() -> None:
    flat, upright = [50.0, 50.0, 100.0, 10.0, 0.0], [50.0, 50.0, 100.0, 10.0, math.pi / 2]
    assert rotated_iou(flat, flat) == pytest.approx(1)
    assert rotated_iou(flat, upright) == pytest.approx(100 / 1900)
    assert rotated_iou(flat, [50.0, 50.0, 10.0, 100.0, math.pi / 2]) == pytest.approx(1)
    assert rotated_iou(flat, [75.0, 50.0, 100.0, 10.0, 0.0]) == pytest.approx(75 / 125)
    assert rotated_iou(flat, [300.0, 50.0, 100.0, 10.0, 1.0]) == 0
    square, turned = [0.0, 0.0, 2.0, 2.0, 0.0], [0.0, 0.0, 2.0, 2.0, math.pi / 4]
    octagon = 8 * (math.sqrt(2) - 1)
    assert rotated_iou(square, turned) == pytest.approx(octagon / (8 - octagon))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("nms", {"iou_threshold": 0.5}),
        ("soft_nms", {"method": "linear", "min_score": 0.2}),
        ("soft_nms", {"method": "gaussian", "min_score": 0.2}),
        ("matrix_nms", {"min_score": 0.2}),
        ("weighted_fusion", {"iou_threshold": 0.5, "score": "max"}),
        ("softer_nms", {"min_score": 0.2}),
    ],
)
def test_long_boxes_that_cross_both_stay(name: str, how: dict[str, Any]) -> None:
    """The boxes around them are equal, so that by box IoU the second one falls; a third lies on the first."""
    up, down = math.pi / 4, -math.pi / 4
    rotated = torch.tensor([[[50.0, 50, 100, 10, up], [50, 50, 100, 10, down], [50.1, 50.1, 100, 10, up]]]).double()
    boxes, rows = around(rotated).float(), torch.arange(3).unsqueeze(0)
    torch.testing.assert_close(boxes[:, 0], boxes[:, 1])
    scores = torch.tensor([[0.9, 0.8, 0.7]])
    candidates = Candidates(boxes, scores, torch.zeros_like(rows), rows, torch.ones_like(boxes))
    suppression = named(name, "suppression").with_args(**how)
    by_box = suppression.build()(candidates).index[0]
    by_shape = suppression.with_args(overlap=RotatedIoU(rotated)).build()(candidates).index[0]
    assert by_box[by_box >= 0].tolist() == [0]
    assert by_shape[by_shape >= 0].tolist() == [0, 1]
