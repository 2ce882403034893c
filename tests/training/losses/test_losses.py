"""Losses: golden values, order (a better prediction costs less), finite at the extremes, label smoothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision

from torso.parts import Part, PartError, find, names, part, produced
from torso.training.losses._base import BoxLoss, ClassLoss
from torso.training.losses.bce import BCELoss
from torso.training.losses.cross_entropy import CrossEntropyLoss
from torso.training.losses.focal import FocalLoss
from torso.training.losses.iou import CIoULoss, DIoULoss, GIoULoss, IoULoss
from torso.training.losses.l1 import L1Loss
from torso.training.losses.smooth_l1 import SmoothL1Loss

EVERY: list[Part[object]] = [part(find(n, "losses")) for n in names("losses")]
BOX = [p.build() for p in EVERY if issubclass(produced(p), BoxLoss)] + [IoULoss(form="linear"), IoULoss(form="square")]
CLASS = [p.build() for p in EVERY if issubclass(produced(p), ClassLoss)]


def name(loss: object) -> str:
    return f"{type(loss).__name__}{getattr(loss, 'form', '')}"


def test_focal_golden() -> None:
    logits, target_boxes = torch.tensor([[0.0], [2.0], [-3.0]]), torch.tensor([0, -1, -1])
    assert FocalLoss()(logits, target_boxes).tolist() == pytest.approx([0.0433217, 1.2375586, 8.19624e-5], rel=1e-5)


def test_focal_equals_torchvisions_and_without_gamma_it_is_binary_cross_entropy() -> None:
    logits = torch.randn(50, 4, dtype=torch.float64) * 5
    labels = torch.randint(-1, 4, (50,))
    one_hot = (torch.arange(4) == labels[:, None]).double()
    want = torchvision.ops.sigmoid_focal_loss(logits, one_hot, alpha=0.25, gamma=2).sum(-1)
    torch.testing.assert_close(FocalLoss()(logits, labels), want)
    plain = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(-1)
    torch.testing.assert_close(FocalLoss(alpha=0.5, gamma=0.0)(logits, labels), plain / 2)
    torch.testing.assert_close(BCELoss()(logits, labels), plain)


def test_cross_entropy_equals_torchs_smoothed_too() -> None:
    logits, labels = torch.randn(20, 5), torch.randint(0, 5, (20,))
    for e in (0.0, 0.1):
        want = F.cross_entropy(logits, labels, label_smoothing=e, reduction="none")
        torch.testing.assert_close(CrossEntropyLoss(smoothing=e)(logits, labels), want)


def test_smoothing_is_the_expectation_over_flipped_labels() -> None:
    """Binary: a label flipped with probability e / 2. Softmax: redrawn among all columns with probability e."""
    e = 0.2
    logits = torch.randn(6, 1, dtype=torch.float64)
    yes, no = torch.zeros(6, dtype=torch.int64), torch.full((6,), -1)
    for loss, smooth in ((BCELoss(), BCELoss(smoothing=e)),):
        expected = (1 - e / 2) * loss(logits, yes) + e / 2 * loss(logits, no)
        torch.testing.assert_close(smooth(logits, yes), expected)
        expected = (1 - e / 2) * loss(logits, no) + e / 2 * loss(logits, yes)
        torch.testing.assert_close(smooth(logits, no), expected)
    many, columns = torch.randn(6, 4, dtype=torch.float64), 4
    label = torch.full((6,), 2)
    redrawn = torch.stack([CrossEntropyLoss()(many, torch.full((6,), k)) for k in range(columns)]).mean(0)
    expected = (1 - e) * CrossEntropyLoss()(many, label) + e * redrawn
    torch.testing.assert_close(CrossEntropyLoss(smoothing=e)(many, label), expected)


def test_flipping_labels_at_random_comes_to_the_smoothed_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.full((200_000, 1), 0.7)
    flipped = torch.rand(200_000, generator=generator) < 0.1
    drawn = BCELoss()(logits, torch.where(flipped, -1, 0)).mean()
    assert float(drawn) == pytest.approx(float(BCELoss(smoothing=0.2)(logits[:1], torch.tensor([0]))[0]), rel=5e-3)


def test_smoothed_focal_is_least_at_the_soft_target() -> None:
    logits = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    cost = FocalLoss(smoothing=0.2, gamma=0.0)(logits, torch.zeros(4001, dtype=torch.int64))
    assert float(logits[cost.argmin()].sigmoid()) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (IoULoss(form="linear"), 1 - 1 / 9),
        (GIoULoss(), 1.1388889),
        (DIoULoss(), 1.0188889),
        (CIoULoss(), 1.0191645),
        (L1Loss(), 20.0),
    ],
    ids=name,
)
def test_box_losses_golden(loss: BoxLoss, value: float) -> None:
    a, b = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 5, 15, 20]])
    want = value if not isinstance(loss, L1Loss) else 25.0
    assert float(loss(a, b)[0]) == pytest.approx(want, rel=1e-5)


def test_smooth_l1_golden() -> None:
    zero = torch.zeros(1, 4)
    error = torch.tensor([[0.0, 0.5, 1.0, -3.0]])
    assert float(SmoothL1Loss(beta=1.0)(error, zero)[0]) == pytest.approx(0 + 0.125 + 0.5 + 2.5)
    for beta in (0.0, 1 / 9, 1.0):
        want = F.smooth_l1_loss(error, zero, beta=beta, reduction="sum")
        assert float(SmoothL1Loss(beta=beta)(error, zero)[0]) == pytest.approx(float(want))


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_overlap_losses_equal_torchvisions(kind: str) -> None:
    g = torch.Generator().manual_seed(0)
    xy = torch.rand(2, 60, 2, generator=g, dtype=torch.float64) * 50
    a, b = torch.cat([xy, xy + 1 + 40 * torch.rand(2, 60, 2, generator=g, dtype=torch.float64)], -1)
    theirs = {
        "giou": torchvision.ops.generalized_box_iou_loss,
        "diou": torchvision.ops.distance_box_iou_loss,
        "ciou": torchvision.ops.complete_box_iou_loss,
    }
    torch.testing.assert_close(find(kind, "losses")()(a, b), theirs[kind](a, b), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("loss", BOX, ids=name)
def test_a_better_box_costs_less_and_the_right_one_nothing(loss: BoxLoss) -> None:
    target_boxes = torch.tensor([[10.0, 10, 50, 40]])
    costs = [float(loss(target_boxes + shift, target_boxes)[0]) for shift in (0.0, 2.0, 5.0, 12.0)]
    assert costs[0] == pytest.approx(0, abs=1e-6)
    assert costs == sorted(costs)
    assert costs[1] > 0


@pytest.mark.parametrize("loss", BOX, ids=name)
def test_box_losses_are_finite_on_degenerate_boxes(loss: BoxLoss) -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [9, 9, 1, 1], [0, 0, 1e-12, 3], [0, 0, 1e6, 1e6], [-5, -5, 5, 5]])
    for prediction in (boxes, boxes.flip(0)):
        prediction = prediction.clone().requires_grad_()
        cost = loss(prediction, boxes)
        cost.sum().backward()
        assert cost.isfinite().all()
        assert (cost >= -1e-6).all()
        assert prediction.grad is not None
        assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("loss", CLASS, ids=name)
def test_a_better_score_costs_less(loss: ClassLoss) -> None:
    label = torch.tensor([1])
    rising = torch.stack([torch.tensor([[-2.0, s, -2.0]]) for s in (-3.0, -1.0, 0.0, 2.0, 5.0)])
    costs = [float(loss(x, label)[0]) for x in rising]
    assert costs == sorted(costs, reverse=True)
    if not loss.softmax:
        background = torch.tensor([-1])
        costs = [float(loss(x, background)[0]) for x in rising]
        assert costs == sorted(costs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("loss", CLASS, ids=name)
def test_class_losses_are_finite_and_not_computed_in_half(loss: ClassLoss, dtype: torch.dtype) -> None:
    logits = torch.tensor([[0.0, 60000.0, -60000.0], [100.0, -100.0, 1e-8]]).to(dtype).requires_grad_()
    cost = loss(logits, torch.tensor([2, 0]))
    cost.sum().backward()
    assert cost.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert cost.isfinite().all()
    assert (cost >= 0).all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    "wrong",
    [
        (FocalLoss, {"alpha": 2.0}),
        (FocalLoss, {"gamma": -1.0}),
        (BCELoss, {"smoothing": 1.0}),
        (CrossEntropyLoss, {"smoothing": -0.1}),
        (SmoothL1Loss, {"beta": -1.0}),
    ],
)
def test_wrong_settings_are_refused(wrong: tuple[type, dict[str, float]]) -> None:
    with pytest.raises(PartError, match=r"expected .*, got "):
        wrong[0](**wrong[1])
