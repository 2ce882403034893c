"""Hard suppression: the greedy reference on every kind of input, the rule at equality, torchvision, compile, export."""

from __future__ import annotations

import pytest
import torch
import torchvision.ops as ops
from torch import Tensor

from torso.geometry.boxes import area, iou_matrix
from torso.kernels.keep import batched_keep, keep_portable
from torso.kernels.keep_cpu import iou_in_place
from torso.kernels.rule import Rule
from torso.suppression._base import rank
from torso.suppression.nms import NMS
from torso.types import Candidates

from . import reference
from .cases import cases
from .reference import chain, random_candidates


def _expected(candidates: Candidates, image: int, **arguments: object) -> list[int]:
    boxes, scores, labels = (field[image].numpy() for field in candidates[:3])
    return reference.nms(boxes, scores, labels, **arguments)


def _assert_is(found: Candidates, candidates: Candidates, kept: list[list[int]]) -> None:
    """Every field of every row: the kept rows of the input, then empty ones."""
    for image, rows in enumerate(kept):
        rows = rows[: found.scores.shape[1]]
        for field, source in zip(found, candidates, strict=True):
            if field is None or source is None:
                assert field is source
                continue
            assert torch.equal(field[image, : len(rows)], source[image, rows].to(field.dtype))
        assert not found.scores[image, len(rows) :].any()
        assert not found.boxes[image, len(rows) :].any()
        assert not found.labels[image, len(rows) :].any()
        assert (found.index[image, len(rows) :] == -1).all()


@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("threshold", [0.3, 0.5])
@pytest.mark.parametrize("name", cases())
def test_equals_the_greedy_reference(name: str, threshold: float, inclusive: bool, per_class: bool) -> None:
    candidates = cases()[name]
    arguments = {"inclusive": inclusive, "per_class": per_class}
    nms = NMS(iou_threshold=threshold, max_detections=60, inclusive=inclusive, class_agnostic=not per_class)
    found = nms(candidates)
    kept = [_expected(candidates, i, threshold=threshold, **arguments) for i in range(len(candidates.scores))]
    _assert_is(found, candidates, kept)


@pytest.mark.parametrize("name", cases())
def test_diou_equals_the_greedy_reference(name: str) -> None:
    candidates = cases()[name]
    found = NMS(iou_threshold=0.2, overlap="diou", max_detections=150)(candidates)
    kept = [_expected(candidates, i, threshold=0.2, overlap=reference.diou) for i in range(len(candidates.scores))]
    _assert_is(found, candidates, kept)


@pytest.mark.parametrize("rule", [Rule("iou", 0.4, False), Rule("iou", 0.5, True), Rule("giou", -0.2, False)], ids=str)
@pytest.mark.parametrize("limit", [1, 30, 1000])
@pytest.mark.parametrize("classes", [1, 2, 80])
def test_portable_and_blocked_forms_agree(rule: Rule, limit: int, classes: int) -> None:
    ranked = rank(random_candidates(classes, 2, 400, classes, size=300.0))
    valid = (ranked.scores > 0) & (torch.arange(400) % 7 != 0)
    keep = batched_keep(
        ranked.boxes,
        valid,
        ranked.labels,
        iou_threshold=rule.threshold,
        inclusive=rule.inclusive,
        overlap=rule.overlap,
        max_keep=limit,
    )
    assert torch.equal(keep, keep_portable(ranked.boxes, valid, ranked.labels, rule, limit))
    assert keep.sum(1).max() <= limit
    assert not (keep & ~valid).any()


def test_fast_iou_is_the_house_iou_bit_for_bit() -> None:
    a, b = random_candidates(1, 1, 90, 1).boxes[0], random_candidates(2, 1, 70, 1).boxes[0]
    fast = iou_in_place(a.T.numpy(), area(a).numpy(), b.T.numpy(), area(b).numpy(), torch.empty(3, 90 * 70 + 5).numpy())
    assert torch.equal(torch.from_numpy(fast), iou_matrix(a, b))


@pytest.mark.parametrize("classes", [1, 3])
def test_equals_torchvision(classes: int) -> None:
    candidates = random_candidates(5, 2, 900, classes, size=500.0)
    scores = torch.rand(2, 900, generator=torch.Generator().manual_seed(0)) + 0.01  # without ties: its order is open
    found = NMS(max_detections=900)(candidates._replace(scores=scores))
    for image in range(2):
        kept = ops.batched_nms(candidates.boxes[image], scores[image], candidates.labels[image], 0.5)
        assert (found.index[image, : len(kept)] - 1000).tolist() == kept.tolist()
        assert (found.index[image, len(kept) :] == -1).all()


@pytest.mark.parametrize(("threshold", "second"), [(0.5, (0, 0, 10, 5)), (0.3, (0, 0, 10, 3)), (0.7, (0, 0, 7, 10))])
def test_rule_at_equality(threshold: float, second: tuple[int, ...]) -> None:
    """An overlap of exactly the threshold survives; with inclusive=True it falls. 0.3 and 0.7 are no exact floats."""
    boxes = torch.tensor([[[0, 0, 10, 10], second]], dtype=torch.float32)
    candidates = cases()["one box"]._replace(boxes=boxes, scores=torch.tensor([[0.9, 0.8]]))
    candidates = candidates._replace(labels=torch.zeros(1, 2).long(), index=torch.arange(2).unsqueeze(0))
    assert NMS(iou_threshold=threshold)(candidates).scores.count_nonzero() == 2
    assert NMS(iou_threshold=threshold, inclusive=True)(candidates).scores.count_nonzero() == 1


def test_golden_four() -> None:
    found = NMS(max_detections=4)(cases()["the golden four"])
    assert found.index.tolist() == [[0, 2, 3, -1]]


def test_long_chain_needs_many_rounds_and_gets_them() -> None:
    ranked = rank(chain(400))
    alternate = torch.arange(400).unsqueeze(0) % 2 == 0
    assert torch.equal(batched_keep(ranked.boxes, ranked.scores > 0, iou_threshold=0.5), alternate)
    blocked = batched_keep(ranked.boxes, ranked.scores > 0, iou_threshold=0.5, inclusive=True)
    assert torch.equal(blocked, alternate)
    assert torch.equal(keep_portable(ranked.boxes, ranked.scores > 0, None, Rule("iou", 0.5, False), 400), alternate)


def test_no_rows_and_no_images() -> None:
    for shape in ((3, 0), (0, 5), (0, 0)):
        empty = Candidates(torch.zeros(*shape, 4), torch.zeros(shape), *(torch.zeros(shape).long() for _ in range(2)))
        found = NMS(max_detections=7)(empty)
        assert found.boxes.shape == (shape[0], 7, 4)
        assert not found.scores.any()


def test_nan_rows_are_empty_and_the_input_is_left_alone() -> None:
    candidates = random_candidates(0, 1, 20, 2)
    candidates.scores[0, 4], candidates.boxes[0, 5, 2], candidates.boxes[0, 6, 0] = (
        float("nan"),
        float("nan"),
        -torch.inf,
    )
    before = [field.clone() for field in candidates[:5]]
    found = NMS(iou_threshold=1.0)(candidates)
    assert not set(found.index[0].tolist()) & {1004, 1005, 1006}
    assert all(field.isfinite().all() for field in found[:5])
    for field, copy in zip(candidates[:5], before, strict=True):
        assert torch.equal(field.nan_to_num(), copy.nan_to_num())


def test_score_threshold_and_top_come_before_the_comparison() -> None:
    candidates = cases()["the golden four"]
    assert NMS(score_threshold=0.6)(candidates).index[0, :3].tolist() == [0, 2, -1]
    assert NMS(pre_nms_top=3)(candidates).index[0, :3].tolist() == [0, 2, -1]


def test_levels_as_labels_are_kept_apart() -> None:
    box = torch.tensor([[[0.0, 0, 10, 10]] * 4])
    keep = batched_keep(box, torch.ones(1, 4).bool(), torch.tensor([[7, 3, 7, 3]]), iou_threshold=0.7, max_keep=3)
    assert keep.tolist() == [[True, True, False, False]]


def test_half_precision_is_compared_in_float32() -> None:
    candidates = random_candidates(9, 1, 50, 1, size=1500.0)
    half = candidates._replace(boxes=candidates.boxes.half(), scores=candidates.scores.half())
    found = NMS()(half)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert torch.equal(found.index, NMS()(half._replace(boxes=half.boxes.float(), scores=half.scores.float())).index)


class _Model(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        found = NMS(max_detections=50)(Candidates(boxes, scores, labels, torch.zeros_like(labels)))
        return found.boxes, found.scores


def test_compiles_without_a_break_and_exports_without_an_operator_of_ours() -> None:
    arguments = (*random_candidates(2, 2, 60, 3)[:3],)
    expected, long = _Model()(*arguments), (*chain(60)[:3],)
    compiled = torch.compile(_Model(), fullgraph=True, backend="aot_eager")(*arguments)
    program = torch.export.export(_Model(), arguments, dynamic_shapes=({0: torch.export.Dim("batch")},) * 3)
    assert "torso" not in str(program.graph)
    for found, wanted in ((compiled, expected), (program.module()(*arguments), expected)):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        program.module()(*(t.repeat(3, *[1] * (t.dim() - 1)) for t in long))[1][2], _Model()(*long)[1][0]
    )


def test_operator_passes_the_checks_of_torch() -> None:
    ranked = rank(random_candidates(0, 2, 30, 2))
    arguments = (ranked.boxes, ranked.scores > 0, ranked.labels, "iou", 0.5, False, 1.0, 10)
    torch.library.opcheck(torch.ops.torso.suppression_keep.default, arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"iou_threshold": 1.5}, "outside 0..1"),
        ({"iou_threshold": float("nan")}, "outside 0..1"),
        ({"iou_threshold": -0.1}, "outside 0..1"),
        ({"max_detections": 0}, "expected a whole number of at least 1"),
        ({"pre_nms_top": 0}, "expected a whole number of at least 1"),
        ({"score_threshold": 1.0}, r"score_threshold: expected a number of at least 0 and below 1, got 1\.0"),
        ({"overlap": "ciou"}, "overlap: expected one of 'iou', 'giou', 'diou' or Overlap"),
        ({"overlap": "mask"}, "overlap: expected one of 'iou', 'giou', 'diou' or Overlap"),
    ],
)
def test_bad_arguments_are_refused_with_the_remedy(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NMS(**arguments)  # type: ignore[arg-type]
