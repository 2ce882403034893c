"""Soft-NMS: the greedy reference on every kind of input, golden values, early end, compile, export."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torso.kernels.pick import pick_rows
from torso.kernels.rule import Decay, DecayMethod, Rule
from torso.suppression.nms import NMS
from torso.suppression.soft_nms import SoftNMS
from torso.types import Candidates

from . import reference
from .cases import cases
from .reference import random_candidates


@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("name", cases())
def test_equals_the_greedy_reference(name: str, method: DecayMethod, per_class: bool) -> None:
    candidates = cases()[name]
    found = SoftNMS(method=method, class_agnostic=not per_class, max_detections=150)(candidates)
    for image in range(len(candidates.scores)):
        boxes, scores, labels = (field[image].numpy() for field in candidates[:3])
        picked = reference.soft_nms(boxes, scores, labels, method=method, per_class=per_class, most=150)
        rows = [row for row, _ in picked]
        wanted = torch.tensor([score for _, score in picked], dtype=torch.float32)
        torch.testing.assert_close(found.scores[image, : len(rows)], wanted, rtol=1e-5, atol=1e-6)
        assert torch.equal(found.index[image, : len(rows)], candidates.index[image, rows])
        assert torch.equal(found.boxes[image, : len(rows)], candidates.boxes[image, rows])
        assert not found.scores[image, len(rows) :].any()
        assert (found.index[image, len(rows) :] == -1).all()


@pytest.mark.parametrize(
    ("method", "golden"),
    [
        ("linear", [(0, 0.9), (2, 0.7), (3, 0.6), (1, 0.255462)]),
        ("gaussian", [(0, 0.9), (2, 0.617748), (3, 0.6), (1, 0.30335)]),
    ],
)
def test_golden_four(method: DecayMethod, golden: list[tuple[int, float]]) -> None:
    found = SoftNMS(method=method, max_detections=4)(cases()["the golden four"])
    assert found.index[0].tolist() == [row for row, _ in golden]
    assert found.scores[0].tolist() == pytest.approx([score for _, score in golden], abs=1e-5)


def test_ending_early_gives_the_first_rows_of_the_whole() -> None:
    candidates = random_candidates(4, 3, 120, 2)
    whole, part = SoftNMS(max_detections=120)(candidates), SoftNMS(max_detections=15)(candidates)
    for all_rows, first in zip(whole[:5], part[:5], strict=True):
        assert torch.equal(all_rows[:, :15], first)


def test_scores_fall_along_the_rows_and_never_rise() -> None:
    candidates = random_candidates(5, 2, 100, 2)
    found = SoftNMS(method="linear")(candidates)
    assert (found.scores.diff(dim=1) <= 0).all()
    for image in range(2):
        rows = found.index[image][found.scores[image] > 0] - 1000
        assert (found.scores[image, : len(rows)] <= candidates.scores[image, rows]).all()


def test_full_overlap_vanishes_as_in_hard_suppression() -> None:
    """Linear decay takes the whole score of a box that a better one covers exactly."""
    same = cases()["all the same box"]
    assert SoftNMS(method="linear")(same).index[0].tolist() == NMS()(same).index[0].tolist()


def test_rule_at_equality() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 3]]])
    rows = torch.arange(2).unsqueeze(0)
    candidates = Candidates(boxes, torch.tensor([[0.9, 0.8]]), torch.zeros_like(rows), rows)
    assert SoftNMS(method="linear")(candidates).scores[0, 1].item() == pytest.approx(0.8 * 0.7)
    assert SoftNMS(method="linear", inclusive=False)(candidates).scores[0, 1].item() == pytest.approx(0.8)


def test_min_score_drops_score_threshold_and_top_choose() -> None:
    candidates = cases()["the golden four"]
    assert SoftNMS(method="linear", min_score=0.3)(candidates).index[0, :4].tolist() == [0, 2, 3, -1]
    assert SoftNMS(score_threshold=0.65)(candidates).index[0, :4].tolist() == [0, 2, 1, -1]
    assert SoftNMS(pre_nms_top=1)(candidates).index[0, :2].tolist() == [0, -1]
    assert SoftNMS(min_score=0.0)(candidates).scores.count_nonzero() == 4


def test_diou_spares_neighbours_and_distant_boxes_are_left_alone() -> None:
    candidates = cases()["the golden four"]
    by_iou = SoftNMS()(candidates).scores[0, :4].sum()
    by_diou = SoftNMS(overlap="diou")(candidates)
    assert by_diou.scores[0, :4].sum() > by_iou
    assert by_diou.scores[0][by_diou.index[0] == 3].item() == pytest.approx(0.6)


def test_no_rows_and_nan_rows() -> None:
    empty = Candidates(torch.zeros(2, 0, 4), torch.zeros(2, 0), torch.zeros(2, 0).long(), torch.zeros(2, 0).long())
    found = SoftNMS(max_detections=5)(empty)
    assert found.boxes.shape == (2, 5, 4)
    assert not found.scores.any()
    candidates = random_candidates(0, 1, 20, 2)
    candidates.scores[0, 4], candidates.boxes[0, 5, 2] = float("nan"), float("nan")
    found = SoftNMS()(candidates)
    assert not set(found.index[0].tolist()) & {1004, 1005}
    assert found.scores.isfinite().all()


class _Model(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        found = SoftNMS(max_detections=8)(Candidates(boxes, scores, labels, torch.zeros_like(labels)))
        return found.boxes, found.scores


def test_compiles_without_a_break_and_exports_without_an_operator_of_ours() -> None:
    arguments = (*random_candidates(2, 2, 30, 3)[:3],)
    compiled = torch.compile(_Model(), fullgraph=True, backend="aot_eager")(*arguments)
    program = torch.export.export(_Model(), arguments)
    assert "torso" not in str(program.graph)
    torch.testing.assert_close(compiled, _Model()(*arguments))
    torch.testing.assert_close(program.module()(*arguments), _Model()(*arguments))


def test_operator_passes_the_checks_of_torch() -> None:
    boxes, scores, labels = random_candidates(0, 2, 30, 2)[:3]
    arguments = (boxes, scores, labels, "iou", 0.3, True, 1.0, "gaussian", 0.5, 1e-3, 10)
    torch.library.opcheck(torch.ops.torso.suppression_pick.default, arguments)


def test_inputs_are_left_alone() -> None:
    candidates = random_candidates(0, 2, 30, 2)
    copy = candidates.scores.clone()
    rule, decay = Rule("iou", 0.3, True), Decay("linear", 0.5, 1e-3)
    pick_rows(candidates.boxes, candidates.scores, candidates.labels, rule=rule, decay=decay, max_picks=10)
    assert torch.equal(copy, candidates.scores)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "cubic"}, "method: expected one of 'linear', 'gaussian', got 'cubic'"),
        ({"sigma": 0.0}, "above 0"),
        ({"sigma": float("nan")}, "above 0"),
        ({"iou_threshold": 2.0}, "outside 0..1"),
        ({"min_score": -0.1}, "min_score: expected a number of at least 0 and below 1"),
        ({"max_detections": -3}, "max_detections: expected a whole number of at least 1, got -3"),
        ({"overlap": "ciou"}, "overlap: expected one of 'iou', 'giou', 'diou' or Overlap"),
    ],
)
def test_bad_arguments_are_refused_with_the_remedy(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SoftNMS(**arguments)  # type: ignore[arg-type]
