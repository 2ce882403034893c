"""Matrix NMS: SOLOv2's formula pair by pair, golden values, full covers, blocks, compile and export."""

from __future__ import annotations

import pytest
import torch

from torso.suppression.matrix_nms import MatrixMethod, MatrixNMS
from torso.types import Candidates

from . import reference
from .cases import cases
from .reference import random_candidates


@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("name", [n for n in cases() if n != "far from the origin"])
def test_equals_the_formula(name: str, method: MatrixMethod, per_class: bool) -> None:
    candidates = cases()[name]
    found = MatrixNMS(method=method, class_agnostic=not per_class, max_detections=150)(candidates)
    for image in range(len(candidates.scores)):
        boxes, scores, labels = (field[image].numpy() for field in candidates[:3])
        wanted = dict(reference.matrix_nms(boxes, scores, labels, method=method, per_class=per_class))
        got = found.scores[image][found.scores[image] > 0]
        rows = found.index[image, : len(got)] - candidates.index[image, 0]
        assert dict(zip(rows.tolist(), got.tolist(), strict=True)) == pytest.approx(wanted, rel=1e-4, abs=1e-6)
        assert (got.diff() <= 0).all()
        assert (found.index[image, len(got) :] == -1).all()
        assert torch.equal(found.boxes[image, : len(got)], candidates.boxes[image, rows])


def test_golden_four() -> None:
    """Row 1 overlaps row 0 by 0.680672, row 2 overlaps row 0 by 0.25; row 1 itself is covered, so row 0 decides."""
    linear = MatrixNMS(method="linear", max_detections=4)(cases()["the golden four"])
    assert linear.index[0].tolist() == [0, 3, 2, 1]
    assert linear.scores[0].tolist() == pytest.approx([0.9, 0.6, 0.7 * 0.75, 0.8 * (1 - 0.680672)], abs=1e-5)


def test_what_is_covered_in_full_falls_and_has_no_say() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 5]]])
    rows = torch.arange(3).unsqueeze(0)
    found = MatrixNMS(method="linear")(Candidates(boxes, torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros_like(rows), rows))
    assert found.index[0, :3].tolist() == [0, 2, -1]
    assert found.scores[0, 1].item() == pytest.approx(0.35)


def test_blocks_give_what_one_matrix_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = random_candidates(3, 2, 90, 2)
    whole = MatrixNMS()(candidates)
    monkeypatch.setattr("torso.suppression.matrix_nms._BLOCK", 2 * 90 * 17)
    for one, other in zip(whole[:5], MatrixNMS()(candidates)[:5], strict=True):
        assert torch.equal(one, other)


def test_min_score_keeps_what_equals_it() -> None:
    one = cases()["one box"]
    assert MatrixNMS(min_score=0.5)(one).scores.count_nonzero() == 1
    assert MatrixNMS(min_score=0.51)(one).scores.count_nonzero() == 0


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"method": "hard"}, "expected one of 'linear', 'gaussian', got 'hard'"),
        ({"sigma": 0.0}, r"sigma: expected a number above 0, got 0\.0"),
    ],
)
def test_bad_arguments_are_refused(bad: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MatrixNMS(**bad)  # type: ignore[arg-type]
