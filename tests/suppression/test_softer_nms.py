"""Softer-NMS: a literal transcription of the paper's algorithm, both forms of voting, hard and soft scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from torso.compose import built_on_meta, compose_model
from torso.suppression.nms import NMS
from torso.suppression.soft_nms import SoftNMS
from torso.suppression.softer_nms import ScoreMethod, SofterNMS
from torso.types import Candidates

from . import reference
from .cases import cases
from .reference import random_candidates

WEIGHTS: dict[str, Callable[[float], float]] = {
    "hard": lambda x: 0.0 if x > np.float32(0.5) else 1.0,
    "linear": lambda x: 1 - x if x > np.float32(0.5) else 1.0,
    "gaussian": lambda x: math.exp(-x * x / 0.5),
}


def _with_variance(candidates: Candidates) -> Candidates:
    generator = torch.Generator().manual_seed(1)
    variance = torch.rand(*candidates.boxes.shape, generator=generator) * 9 + 0.05
    return candidates._replace(variance=variance)


@pytest.mark.parametrize("voting", ["paper", "seed"])
@pytest.mark.parametrize("method", ["hard", "linear", "gaussian"])
@pytest.mark.parametrize("name", [n for n in cases() if n != "far from the origin"])
def test_equals_the_papers_algorithm(name: str, method: ScoreMethod, voting: str) -> None:
    candidates = _with_variance(cases()[name])
    softer = SofterNMS(method=method, voting=voting, voting_sigma=0.05, class_agnostic=True, max_detections=150)  # type: ignore[arg-type]
    found = softer(candidates)
    assert found.variance is not None
    for image in range(len(candidates.scores)):
        B, S, C = (x[image].numpy() for x in (candidates.boxes, candidates.scores, candidates.variance))
        D = reference.softer_nms(B, S, C, sigma_t=0.05, f=WEIGHTS[method], form=voting, Nt=0.5)
        wanted = [row for row, _, _ in D]
        assert torch.equal(found.index[image, : len(D)], candidates.index[image, wanted])
        for place, (_, box, score) in enumerate(D):
            assert found.boxes[image, place].tolist() == pytest.approx(box.tolist(), abs=2e-4)
            assert found.scores[image, place].item() == pytest.approx(score, rel=1e-4, abs=1e-6)
        for field in (found.scores, found.boxes, found.variance):
            assert not field[image, len(D) :].any()


@pytest.mark.parametrize("method", ["hard", "linear", "gaussian"])
def test_voting_moves_boxes_and_nothing_else(method: ScoreMethod) -> None:
    candidates = random_candidates(8, 2, 80, 3)
    other = NMS() if method == "hard" else SoftNMS(method=method, iou_threshold=0.5, inclusive=False)
    softer, plain = SofterNMS(method=method)(candidates), other(candidates)
    assert not torch.equal(softer.boxes, plain.boxes)
    for column in ("scores", "labels", "index"):
        assert torch.equal(getattr(softer, column), getattr(plain, column))


def test_by_hand_the_surer_box_counts_more_each_coordinate_apart() -> None:
    """Two boxes with IoU 9/11; variances 1 and 3 on the left, equal on the right, so 1/4 and 1/2 of the way."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 0, 11, 10]]])
    rows, variance = torch.arange(2).unsqueeze(0), torch.tensor([[[1.0, 1, 2, 1], [3, 1, 2, 1]]])
    pair = Candidates(boxes, torch.tensor([[0.9, 0.8]]), torch.zeros_like(rows), rows, variance)
    found = SofterNMS(method="hard", voting="seed", max_detections=1)(pair)
    assert found.boxes[0, 0].tolist() == pytest.approx([0.25, 0, 10.5, 10])
    assert found.variance is not None
    assert found.variance[0, 0].tolist() == pytest.approx([1.5, 1, 2, 1])
    p = math.exp(-((1 - 90 / 110) ** 2) / 0.02)
    found = SofterNMS(method="hard", max_detections=1)(pair)
    assert found.boxes[0, 0, 0].item() == pytest.approx((p / 3) / (1 + p / 3), rel=1e-5)
    assert found.boxes[0, 0, 2].item() == pytest.approx((10 + 11 * p) / (1 + p), rel=1e-6)


def test_voters_at_equality_and_of_other_labels_stay_out() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 5]]])
    rows = torch.arange(2).unsqueeze(0)
    pair = Candidates(boxes, torch.tensor([[0.9, 0.8]]), torch.zeros_like(rows), rows, torch.ones(1, 2, 4))
    for threshold, voters in ((0.5, 1), (0.49, 2)):
        found = SofterNMS(method="hard", voting="seed", voting_threshold=threshold)(pair)
        assert found.boxes[0, 0, 3].item() == pytest.approx(10.0 if voters == 1 else 7.5)
    apart = pair._replace(labels=rows)
    assert SofterNMS(voting="seed", voting_threshold=0.1)(apart).boxes[0, 0, 3] == 10
    assert SofterNMS(voting="seed", voting_threshold=0.1, class_agnostic=True)(apart).boxes[0, 0, 3] == 7.5


def test_a_box_without_extent_or_variance_stands_where_it_was() -> None:
    boxes = torch.tensor([[[5.0, 5, 5, 5], [900.0, 100, 950, 160], [901, 100, 951, 160]]])
    rows = torch.arange(3).unsqueeze(0)
    variance = torch.tensor([[[1.0] * 4, [0.0] * 4, [float("inf")] * 4]])
    found = SofterNMS()(Candidates(boxes, torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros_like(rows), rows, variance))
    assert all(field.isfinite().all() for field in found[:5])
    torch.testing.assert_close(found.boxes[0, :2], boxes[0, :2], rtol=0, atol=1e-3)


def test_needs_variance_and_says_where_it_comes_from() -> None:
    with pytest.raises(ValueError, match=r"set head\.uncertainty=True and criterion\.box\.loss='kl'"):
        SofterNMS()(cases()["one box"])
    SofterNMS().check(SimpleNamespace(has_uncertainty=True))  # type: ignore[arg-type]
    NMS().check(SimpleNamespace(has_uncertainty=False))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            "fcos",
            r"FCOSHead predicts none here: set head\.uncertainty=True and criterion\.box\.loss='kl', or set",
        ),
        (
            "gfl",
            r"set head\.coder='ltrb' and head\.uncertainty=True and criterion\.box\.loss='kl', or set",
        ),
        ("centernet_points", "CenterNetPointsHead cannot learn one: set suppression='nms'"),
        ("yolov1", "GridHead cannot learn one: set suppression='nms'"),
    ],
)
def test_each_head_is_told_what_it_can_do(model: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        built_on_meta(compose_model(model, num_classes=2, suppression="softer_nms"))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"method": "mean"}, "expected one of 'hard', 'linear', 'gaussian', got 'mean'"),
        ({"voting": "majority"}, "expected one of 'paper', 'seed', got 'majority'"),
        ({"voting_sigma": 0.0}, "above 0"),
        ({"voting_threshold": 2.0}, "outside"),
    ],
)
def test_bad_arguments_are_refused(bad: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SofterNMS(**bad)  # type: ignore[arg-type]
