"""What every suppression shares: caps, limits, empty inputs, another measure of overlap, compile and export."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from torso.cli._signature import read_signature
from torso.geometry.boxes import OverlapKind, iou_matrix
from torso.geometry.overlaps import BoxOverlap, Overlap
from torso.parts import PartError, arguments, named, names
from torso.suppression._base import Limits, Suppression
from torso.types import Candidates

from .reference import random_candidates

NAMES = tuple(names("suppression"))
WITH_OVERLAP = [n for n in NAMES if "overlap" in arguments(named(n, "suppression").target)]


def built(name: str, **how: Any) -> Suppression:
    return named(name, "suppression").with_args(**how).build()


def test_they_are_all_here() -> None:
    assert set(NAMES) == {"diou_nms", "matrix_nms", "nms", "none", "soft_nms", "softer_nms", "weighted_fusion"}
    assert set(WITH_OVERLAP) == set(NAMES) - {"none", "diou_nms"}, "DIoU is what diou_nms measures"


@pytest.mark.parametrize("name", WITH_OVERLAP)
def test_the_overlaps_that_are_listed_are_those_that_it_takes(name: str) -> None:
    """In the listing, in the check of parts, and in the constructor itself, which plain Python calls."""
    maker = named(name, "suppression").target
    listed = next(a.annotation for a in read_signature("suppression", name).arguments if a.name == "overlap")
    for kind in get_args(OverlapKind):
        if repr(kind) in listed:
            built(name, overlap=kind)
            continue
        refused = f"overlap: expected one of 'iou', 'giou', 'diou' or Overlap, got '{kind}'"
        with pytest.raises(PartError, match=refused):
            named(name, "suppression").with_args(overlap=kind)
        with pytest.raises(ValueError, match=refused):
            maker(overlap=kind)
    assert listed.startswith("Literal['iou', 'giou', 'diou']")


@pytest.mark.parametrize("name", NAMES)
def test_every_limit_arrives_under_its_own_name(name: str) -> None:
    own = set(arguments(named(name, "suppression").target))
    wanted = {"max_detections": 11, "max_per_class": 12, "pre_nms_top": 13, "pre_nms_top_per_class": 14,
              "score_threshold": 0.15, "class_agnostic": True}  # fmt: skip
    given = {limit: value for limit, value in wanted.items() if limit in own}
    limits = built(name, **given).limits
    assert {limit: getattr(limits, limit) for limit in given} == given
    assert len(given) == 6 or name == "none"
    with pytest.raises(ValueError, match="max_per_class: expected a whole number of at least 1 or none, got 0"):
        built(name, max_per_class=0)


def test_limits_for_several_images_leave_the_absent_ones_and_the_threshold() -> None:
    limits = Limits(10, None, 20, 5, 0.3, True).times(3)
    assert limits == Limits(30, None, 60, 15, 0.3, True)


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_best_first_full_precision_and_end_in_empty_ones(name: str) -> None:
    found = built(name, max_detections=200)(random_candidates(0, 2, 60, 3))
    assert found.boxes.shape == (2, 200, 4)
    assert found.variance is not None
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert (found.scores.diff(dim=1) <= 0).all()
    empty = found.scores == 0
    assert empty[:, 60:].all()
    assert (found.index[empty] == -1).all()
    assert not any(column[empty].any() for column in (found.boxes, found.labels, found.variance))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3, 0), (0, 5), (0, 0)])
def test_no_rows_and_no_images(name: str, shape: tuple[int, int]) -> None:
    zeros = torch.zeros(shape)
    empty = Candidates(torch.zeros(*shape, 4), zeros, zeros.long(), zeros.long(), torch.zeros(*shape, 4))
    how = {"max_per_class": 2} if name != "none" else {}
    found = built(name, max_detections=7, **how)(empty)
    assert found.boxes.shape == (shape[0], 7, 4)
    assert not found.scores.any()


@pytest.mark.parametrize("name", NAMES)
def test_at_most_so_many_of_a_class_come_out_and_the_best_of_them(name: str) -> None:
    candidates = random_candidates(2, 2, 90, 4, size=2000.0)
    whole = built(name, max_detections=90)(candidates)
    capped = built(name, max_detections=90, max_per_class=3)(candidates)
    for image in range(2):
        kept = whole.scores[image] > 0
        labels = whole.labels[image][kept]
        first = [i for i, label in enumerate(labels.tolist()) if (labels[:i] == label).sum() < 3]
        assert len(first) < len(labels)
        assert torch.equal(capped.index[image, : len(first)], whole.index[image][kept][first])
        assert torch.equal(capped.scores[image, : len(first)], whole.scores[image][kept][first])
        assert (capped.index[image, len(first) :] == -1).all()


@pytest.mark.parametrize("name", [n for n in NAMES if n != "none"])
def test_limits_before_equal_a_smaller_input(name: str) -> None:
    candidates = random_candidates(4, 1, 80, 3)
    order = sorted(range(80), key=lambda i: (-float(candidates.scores[0, i]), i))
    seen: dict[int, int] = {}
    chosen = []
    for row in order:
        label = int(candidates.labels[0, row])
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= 9 and candidates.scores[0, row] > 0.3:
            chosen.append(row)
    chosen = sorted(chosen[:20])
    fewer = candidates.map(lambda x: x[:, chosen])
    limits = {"pre_nms_top": 20, "pre_nms_top_per_class": 9, "score_threshold": 0.3}
    for limited, small in zip(built(name, **limits)(candidates)[:5], built(name)(fewer)[:5], strict=True):
        assert torch.equal(limited, small)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("score", [float("inf"), float("-inf"), float("nan")])
def test_a_row_whose_score_is_no_number_takes_no_part(name: str, score: float) -> None:
    """Whether it was best or not: of what a network overflowed in, nothing can be averaged."""
    candidates = random_candidates(8, 2, 40, 2)
    broken, empty = candidates.scores.clone(), candidates.scores.clone()
    broken[:, ::7], empty[:, ::7] = score, 0.0
    before = broken.clone()
    found = built(name)(candidates._replace(scores=broken))
    assert torch.equal(broken.nan_to_num(), before.nan_to_num())
    for got, wanted in zip(found, built(name)(candidates._replace(scores=empty)), strict=True):
        assert (got is None) == (wanted is None)
        assert got is None or (got.isfinite().all() and torch.equal(got, wanted))


class _ByNumber(Overlap):
    """Stands for masks: the IoU of boxes that are found by the rows' index, not by their boxes."""

    def __init__(self, boxes: Tensor) -> None:
        self.boxes = boxes

    def __call__(self, a: Candidates, b: Candidates) -> Tensor:
        return iou_matrix(self._of(a), self._of(b))

    def _of(self, rows: Candidates) -> Tensor:
        real = self.boxes.gather(1, rows.index.clamp(min=0).unsqueeze(-1).expand(-1, -1, 4))
        return real.where((rows.index >= 0).unsqueeze(-1), 0.0)


@pytest.mark.parametrize("name", [n for n in WITH_OVERLAP if n != "weighted_fusion"])
def test_any_measure_of_overlap_goes_in(name: str) -> None:
    """The same answer, the boxes themselves being far apart; weighted_fusion compares what has no index: see below."""
    candidates = random_candidates(6, 2, 50, 2)
    candidates = candidates._replace(index=candidates.index - 1000)
    apart = candidates._replace(boxes=candidates.boxes + torch.arange(50.0)[:, None] * 1e4)
    wanted, found = built(name)(candidates), built(name, overlap=_ByNumber(candidates.boxes))(apart)
    assert torch.equal(found.index, wanted.index)
    torch.testing.assert_close(found.scores, wanted.scores)
    assert not torch.equal(built(name)(apart).index, wanted.index)


def test_fusion_by_the_index_compares_the_founder_and_not_what_it_has_become() -> None:
    """Row 2 overlaps the mean of rows 0 and 1 by 3/7, row 0 by 1/4: the cluster's index is row 0's, its boxes move."""
    boxes, rows = torch.tensor([[[0.0, 0, 10, 1], [4, 0, 14, 1], [6, 0, 16, 1]]]), torch.arange(3).unsqueeze(0)
    candidates = Candidates(boxes, torch.tensor([[0.5, 0.5, 0.5]]), torch.zeros_like(rows), rows)
    fused = built("weighted_fusion", iou_threshold=0.4, max_detections=3)(candidates)
    assert fused.index[0].tolist() == [0, -1, -1]
    found = built("weighted_fusion", iou_threshold=0.4, max_detections=3, overlap=_ByNumber(boxes))(candidates)
    assert found.index[0].tolist() == [0, 2, -1]
    assert found.boxes[0, 0].tolist() == [2, 0, 12, 1], "boxes are averaged all the same"


@pytest.mark.parametrize("name", WITH_OVERLAP)
@pytest.mark.parametrize("kind", ["iou", "diou", "giou"])
def test_kinds_of_box_overlap_by_kernel_and_by_matrix(name: str, kind: Any) -> None:
    class Same(Overlap):
        def __call__(self, a: Candidates, b: Candidates) -> Tensor:
            return BoxOverlap(kind=kind)(a, b)

    candidates = random_candidates(7, 2, 60, 2)
    wanted, found = built(name, overlap=kind)(candidates), built(name, overlap=Same())(candidates)
    assert torch.equal(found.index, wanted.index)
    torch.testing.assert_close(found.scores, wanted.scores)
    torch.testing.assert_close(found.boxes, wanted.boxes)


def test_the_pages_masks() -> None:
    """The class that docs/suppression.md shows: of two overlapping boxes whose masks do not meet, both stay."""
    page = (Path(__file__).parents[2] / "docs" / "suppression.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "class MaskIoU" in b)
    rows = torch.arange(3).unsqueeze(0)
    boxes = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 8, 8]]])
    masks = torch.tensor([[[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]])
    known = {
        "masks": masks, "candidates": Candidates(boxes, torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros_like(rows), rows)
    }  # fmt: skip
    exec(compile(block, "docs/suppression.md", "exec"), known)
    nms = built("nms", overlap=known["MaskIoU"](masks))  # type: ignore[operator]
    assert nms(known["candidates"]).index[0, :3].tolist() == [0, 1, -1]  # type: ignore[arg-type]


class _Model(nn.Module):
    def __init__(self, suppression: Suppression) -> None:
        super().__init__()
        self.suppression = suppression

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        found = self.suppression(Candidates(boxes, scores, labels, torch.zeros_like(labels), variance))
        return found.boxes, found.scores


@pytest.mark.parametrize("name", NAMES)
def test_compiles_without_a_break_and_exports_without_an_operator_of_ours(name: str) -> None:
    candidates = random_candidates(2, 2, 40, 3)
    given = (*candidates[:3], candidates.variance)
    model = _Model(built(name, max_detections=15, max_per_class=6 if name != "soft_nms" else None))
    expected = model(*given)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(*given)
    torch.testing.assert_close(compiled, expected)
    if name == "softer_nms":
        return  # as soft_nms, whose export is tested
    program = torch.export.export(model, given, dynamic_shapes=({0: torch.export.Dim("batch")},) * 4)
    assert "torso" not in str(program.graph)
    torch.testing.assert_close(program.module()(*given), expected)
    more = tuple(t.repeat(2, *[1] * (t.dim() - 1)) for t in given)
    torch.testing.assert_close(program.module()(*more), model(*more))
