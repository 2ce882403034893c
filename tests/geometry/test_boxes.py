"""Boxes: golden values, parity with torchvision in float64, finite gradients at every corner case, inverses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision.ops as ops
from torch import Tensor

from torso.geometry.boxes import (
    OverlapKind,
    aligned_overlap,
    area,
    clip_boxes,
    cxcywh_to_xyxy,
    iou_matrix,
    overlap_matrix,
    xyxy_to_cxcywh,
)

KINDS: tuple[OverlapKind, ...] = ("iou", "giou", "diou", "ciou")
CORNER_CASES = {
    "identical": ([3, 4, 13, 24], [3, 4, 13, 24]),
    "disjoint": ([0, 0, 10, 10], [50, 60, 70, 90]),
    "touching": ([0, 0, 10, 10], [10, 0, 20, 10]),
    "inside": ([0, 0, 100, 100], [40, 40, 60, 50]),
    "equal points": ([5, 5, 5, 5], [5, 5, 5, 5]),
    "distant points": ([5, 5, 5, 5], [9, 9, 9, 9]),
    "equal lines": ([0, 5, 10, 5], [0, 5, 10, 5]),
    "line in a box": ([2, 5, 8, 5], [0, 0, 10, 10]),
    "point in a box": ([5, 5, 5, 5], [0, 0, 10, 10]),
    "inverted": ([10, 10, 0, 0], [0, 0, 10, 10]),
    "inverted twice": ([10, 10, 0, 0], [10, 10, 0, 0]),
    "tiny": ([0, 0, 1e-20, 1e-20], [0, 0, 1e-20, 1e-20]),
    "huge": ([0, 0, 1e9, 1e9], [1e8, 1e8, 1e9, 1e9]),
}


def random_boxes(seed: int, *shape: int) -> Tensor:
    corners = torch.rand(*shape, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 60
    return torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:] + 0.5], dim=-1)


@pytest.mark.parametrize(("kind", "expected"), zip(KINDS, (0.1111111, -0.1388889, -0.0188889, -0.0191645), strict=True))
def test_golden_values(kind: OverlapKind, expected: float) -> None:
    a, b = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 5, 15, 20]])
    assert aligned_overlap(a, b, kind).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "peer"),
    zip(
        KINDS,
        (ops.box_iou, ops.generalized_box_iou, ops.distance_box_iou, ops.complete_box_iou),
        strict=True,
    ),
)
def test_matrix_equals_torchvision(kind: OverlapKind, peer: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = random_boxes(0, 40), random_boxes(1, 30)
    torch.testing.assert_close(overlap_matrix(a, b, kind), peer(a, b), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "peer"),
    zip(
        KINDS[1:],
        (ops.generalized_box_iou_loss, ops.distance_box_iou_loss, ops.complete_box_iou_loss),
        strict=True,
    ),
)
def test_loss_and_gradient_equal_torchvision(kind: OverlapKind, peer: Callable[..., Tensor]) -> None:
    ours, theirs = random_boxes(2, 64).requires_grad_(), random_boxes(2, 64).requires_grad_()
    targets = random_boxes(3, 64)
    loss, expected = (1 - aligned_overlap(ours, targets, kind)), peer(theirs, targets)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-8)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CORNER_CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_corner_cases_are_finite_in_value_and_gradient(kind: OverlapKind, case: str, dtype: torch.dtype) -> None:
    a, b = (torch.tensor([box], dtype=dtype, requires_grad=True) for box in CORNER_CASES[case])
    overlap = aligned_overlap(a, b, kind)
    overlap.sum().backward()
    assert overlap.isfinite().all()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()
    assert a.grad.abs().max() < 1e6


@pytest.mark.parametrize("case", ["equal points", "equal lines", "line in a box", "inverted", "inverted twice"])
def test_degenerate_boxes_have_iou_zero(case: str) -> None:
    a, b = (torch.tensor(box, dtype=torch.float64) for box in CORNER_CASES[case])
    assert aligned_overlap(a, b, "iou") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_equal_boxes_overlap_fully_and_nan_is_not_hidden(kind: OverlapKind) -> None:
    boxes = random_boxes(4, 8)
    torch.testing.assert_close(aligned_overlap(boxes, boxes, kind), torch.ones(8, dtype=torch.float64))
    assert aligned_overlap(boxes * float("nan"), boxes, kind).isnan().all()


def test_ciou_weight_carries_no_gradient() -> None:
    box, target = random_boxes(5, 1).requires_grad_(), random_boxes(6, 1)
    (gradient,) = torch.autograd.grad(aligned_overlap(box, target, "ciou").sum(), box)
    step = torch.zeros_like(box)
    step[0, 2] = 1e-6
    with torch.no_grad():
        numeric = (aligned_overlap(box + step, target, "ciou") - aligned_overlap(box - step, target, "ciou")) / 2e-6
    assert abs(gradient[0, 2] - numeric.item()) > 1e-6, "the full derivative is another one: alpha was not detached"


def test_diou_gradient_is_the_derivative() -> None:
    box, target = random_boxes(7, 6).requires_grad_(), random_boxes(8, 6)
    for kind in ("iou", "giou", "diou"):
        assert torch.autograd.gradcheck(lambda b, k=kind: aligned_overlap(b, target, k), (box,))


def test_broadcasting_and_empty_sides() -> None:
    a, b = random_boxes(9, 2, 3, 5), random_boxes(10, 3, 7)
    matrix = iou_matrix(a, b)
    assert matrix.shape == (2, 3, 5, 7)
    torch.testing.assert_close(matrix[1, 2], ops.box_iou(a[1, 2], b[2]))
    assert iou_matrix(a[:, :, :0], b).shape == (2, 3, 0, 7)
    assert overlap_matrix(a[0, 0], b[0, :0], "ciou").shape == (5, 0)


def test_half_precision_is_computed_in_float32() -> None:
    box = torch.tensor([[0, 0, 1000, 1000]], dtype=torch.float16)
    overlap = aligned_overlap(box, box, "ciou")
    assert overlap.dtype == torch.float32
    assert overlap.item() == 1


def test_formats_are_inverse() -> None:
    boxes = random_boxes(11, 4, 9)
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)
    assert xyxy_to_cxcywh(torch.tensor([2.0, 4, 6, 14])).tolist() == [4, 9, 4, 10]


def test_area_has_no_plus_one() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 20], [5, 5, 5, 9], [9, 9, 2, 2]])
    assert area(boxes).tolist() == [200, 0, 0]


def test_clip_uses_each_images_own_size() -> None:
    boxes = torch.tensor([[[-5.0, -6, 70, 90]], [[-5.0, 6, 70, 90]]])
    clipped = clip_boxes(boxes, torch.tensor([[50.0, 60], [100, 65]]))
    assert clipped.tolist() == [[[0, 0, 60, 50]], [[0, 6, 65, 90]]]
    assert boxes[0, 0, 0] == -5


def test_unknown_kind_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'eiou'.*iou, giou, diou, ciou"):
        aligned_overlap(random_boxes(0, 1), random_boxes(1, 1), "eiou")  # type: ignore[arg-type]


def test_compiles_and_exports() -> None:
    a, b = random_boxes(12, 6).float(), random_boxes(13, 6).float()

    class Ciou(torch.nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return overlap_matrix(a, b, "ciou")

    traced = torch.compile(Ciou(), fullgraph=True, backend="aot_eager")(a, b)
    exported = torch.export.export(Ciou(), (a, b)).module()(a, b)
    torch.testing.assert_close(traced, overlap_matrix(a, b, "ciou"))
    torch.testing.assert_close(exported, overlap_matrix(a, b, "ciou"))
