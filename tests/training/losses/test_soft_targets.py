"""QFL, VFL, DFL, balanced L1, GHM-C and YOLO's box loss: golden values, closed forms, slopes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from torso.parts import PartError
from torso.training.losses.balanced_l1 import BalancedL1Loss
from torso.training.losses.bce import BCELoss
from torso.training.losses.dfl import DFLLoss
from torso.training.losses.ghm import GHMLoss
from torso.training.losses.qfl import QFLLoss
from torso.training.losses.vfl import VFLLoss
from torso.training.losses.yolo_box import YOLOBoxLoss
from torso.training.samplers.hard_negative import HardNegativeSampler


def test_golden_values() -> None:
    logits, label, quality = torch.tensor([[0.0, 1.0]]), torch.tensor([1]), torch.tensor([0.7])
    assert float(QFLLoss()(logits, label, quality)) == pytest.approx(0.1738784, rel=1e-5)
    assert VFLLoss().per_column(logits, label, quality)[0].tolist() == pytest.approx([0.1299651, 0.4292832], rel=1e-5)
    error = torch.tensor([[0.25, 0.0, 0, 0], [0.5, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, -2.0]])
    want = [0.1400365, 0.4005675, 1.0785935, 2.5785935]
    assert BalancedL1Loss()(error, torch.zeros(4, 4)).tolist() == pytest.approx(want, rel=1e-5)
    bins = (0.1 * torch.arange(17.0)).expand(1, 4, 17)
    assert float(DFLLoss()(bins, torch.full((1, 4), 3.3))) == pytest.approx(3.4204395, rel=1e-5)


def test_soft_losses_with_hard_targets() -> None:
    """Without a quality QFL is focal loss without alpha; both are least where the score is the quality."""
    logits, labels = torch.randn(40, 3, dtype=torch.float64) * 4, torch.randint(-1, 3, (40,))
    one_hot = (torch.arange(3) == labels[:, None]).double()
    p_t = torch.where(one_hot > 0, logits.sigmoid(), 1 - logits.sigmoid())
    torch.testing.assert_close(QFLLoss()(logits, labels), (-((1 - p_t) ** 2) * p_t.log()).sum(-1))
    line = torch.linspace(-6, 6, 2401, dtype=torch.float64)[:, None]
    for loss in (QFLLoss(), VFLLoss(), BCELoss()):
        cost = loss(line, torch.zeros(2401, dtype=torch.int64), torch.full((2401,), 0.7))
        assert float(line[cost.argmin()].sigmoid()) == pytest.approx(0.7, abs=0.01)


def test_a_worthless_positive_is_background_to_vfl() -> None:
    logits = torch.randn(5, 3)
    worthless = VFLLoss()(logits, torch.ones(5, dtype=torch.int64), torch.zeros(5))
    torch.testing.assert_close(worthless, VFLLoss()(logits, torch.full((5,), -1)))


def test_dfl_is_the_cross_entropy_of_the_two_bins_and_least_there() -> None:
    logits = torch.randn(6, 4, 9, dtype=torch.float64, requires_grad=True)
    target = torch.rand(6, 4, dtype=torch.float64) * 8
    target[0] = torch.tensor([0.0, 8.0, 3.0, 7.999])
    share = (1 - (target[..., None] - torch.arange(9)).abs()).clamp(min=0)
    want = -(share * logits.log_softmax(-1)).sum(-1).mean(-1)
    torch.testing.assert_close(DFLLoss()(logits, target), want)
    torch.testing.assert_close(DFLLoss()(logits, target + 100), DFLLoss()(logits, torch.full_like(target, 8.0)))
    assert torch.autograd.gradcheck(lambda x: DFLLoss()(x, target), (logits,))


@pytest.mark.parametrize("loss", [QFLLoss(), QFLLoss(beta=1.5), VFLLoss()], ids=["2", "1.5", "vfl"])
def test_slopes(loss: QFLLoss | VFLLoss) -> None:
    logits = torch.linspace(-4, 4, 30, dtype=torch.float64).view(10, 3).requires_grad_()
    labels, quality = torch.arange(10) % 4 - 1, torch.linspace(0.05, 1, 10, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, quality), (logits,))


def test_balanced_l1_is_smooth_where_its_parts_meet() -> None:
    d = torch.tensor([[1 - 1e-9, 0, 0, 0], [1 + 1e-9, 0, 0, 0]], dtype=torch.float64, requires_grad=True)
    cost = BalancedL1Loss()(d, torch.zeros(2, 4, dtype=torch.float64))
    (slope,) = torch.autograd.grad(cost.sum(), d)
    assert float(cost[0].detach()) == pytest.approx(float(cost[1].detach()))
    assert slope[:, 0].tolist() == pytest.approx([1.5, 1.5])


def plain_ghm(logits: torch.Tensor, labels: torch.Tensor, used: torch.Tensor, bins: int) -> float:
    elements = []
    for row, label, use in zip(logits.tolist(), labels.tolist(), used.tolist(), strict=True):
        for k, x in enumerate(row):
            p, t = 1 / (1 + math.exp(-x)), float(k == label)
            if use:
                elements.append((min(int(abs(p - t) * bins), bins - 1), -math.log(p if t else 1 - p)))
    count = [sum(b == i for b, _ in elements) for i in range(bins)]
    filled = sum(c > 0 for c in count)
    return sum(value / count[b] / filled for b, value in elements)


def test_ghm_counts_each_bin_alike() -> None:
    g = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(60, 4, generator=g) * 3, torch.randint(-1, 4, (60,), generator=g)
    used = torch.rand(60, generator=g) < 0.7
    for bins in (1, 10, 30):
        got = GHMLoss(bins=bins).masked(logits, labels, None, used).sum() / (used.sum() * 4)
        assert float(got) == pytest.approx(plain_ghm(logits, labels, used, bins), rel=1e-5)
    torch.testing.assert_close(GHMLoss(bins=1)(logits, labels), BCELoss()(logits, labels))
    assert float(GHMLoss().masked(logits, labels, None, torch.zeros(60, dtype=torch.bool)).sum()) == 0


def test_yolo_box_descends_as_darknet_does() -> None:
    code = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(8, 4, dtype=torch.float64)
    (slope,) = torch.autograd.grad(YOLOBoxLoss()(code, wanted).sum(), code)
    share = code.sigmoid() - wanted.sigmoid()
    torch.testing.assert_close(slope, torch.cat([share[:, :2], (code - wanted)[:, 2:]], -1))
    (slope,) = torch.autograd.grad(YOLOBoxLoss(center="squared", size_weight=3.0)(code, wanted).sum(), code)
    of_center = share[:, :2] * (code.sigmoid() * (1 - code.sigmoid()))[:, :2]
    torch.testing.assert_close(slope, torch.cat([of_center, 3 * (code - wanted)[:, 2:]], -1))


def test_binary_cross_entropy_takes_a_soft_target() -> None:
    logits = torch.randn(5, 3)
    got = BCELoss().per_column(logits, torch.full((5,), 2), torch.full((5,), 0.4))
    want = torch.zeros(5, 3)
    want[:, 2] = 0.4
    torch.testing.assert_close(got, F.binary_cross_entropy_with_logits(logits, want, reduction="none"))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: QFLLoss(beta=0.5),
        lambda: VFLLoss(alpha=-1.0),
        lambda: GHMLoss(bins=0),
        lambda: BalancedL1Loss(alpha=0.0),
        lambda: YOLOBoxLoss(size_weight=-1.0),
        lambda: HardNegativeSampler(ratio=0.0),
        lambda: HardNegativeSampler(least=-1),
    ],
)
def test_wrong_settings_are_refused(wrong: object) -> None:
    with pytest.raises(PartError, match=r"expected .*, got "):
        wrong()  # type: ignore[operator]
