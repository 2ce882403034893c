"""KL loss: the paper's formula, golden values, its minimum, gradients, finite at the extremes."""

from __future__ import annotations

import math

import pytest
import torch

from torso.parts import PartError
from torso.training.losses.kl import KL
from torso.training.losses.smooth_l1 import SmoothL1


@pytest.mark.parametrize(
    ("d", "alpha", "wanted"),
    [
        (0.5, 0.0, 0.125),
        (0.5, math.log(0.25), 0.5 * 0.25 / 0.25 + math.log(0.25) / 2),
        (3.0, math.log(4.0), 2.5 / 4 + math.log(4.0) / 2),
        (-3.0, 2.0, 2.5 * math.exp(-2) + 1),
        (1.0, -1.0, 0.5 * math.e - 0.5),
    ],
)
def test_golden_values(d: float, alpha: float, wanted: float) -> None:
    """(xg - xe)^2 / (2 sigma^2) + log sigma^2 / 2 to |d| = 1, then (|d| - 1/2) / sigma^2 + log sigma^2 / 2."""
    zeros = torch.zeros(1, 4)
    assert KL()(zeros + d, zeros, zeros + alpha).item() == pytest.approx(4 * wanted)


def test_is_smooth_l1_where_sigma_is_one_and_where_none_is_given() -> None:
    prediction, target = torch.randn(2, 50, 4) * 2
    torch.testing.assert_close(KL()(prediction, target, torch.zeros(50, 4)), SmoothL1()(prediction, target))
    torch.testing.assert_close(KL()(prediction, target), SmoothL1()(prediction, target))


def test_is_the_divergence_from_the_density_up_to_its_constant() -> None:
    d, sigma = torch.tensor([[0.3, -0.7, 0.9, 0.1]], dtype=torch.float64), torch.tensor([[0.5, 1.5, 2.0, 0.2]]).double()
    density = torch.distributions.Normal(torch.zeros(1, 4).double(), sigma).log_prob(d)
    expected = (-density - 0.5 * math.log(2 * math.pi)).sum(-1)
    torch.testing.assert_close(KL()(d, torch.zeros_like(d), 2 * sigma.log()), expected)


@pytest.mark.parametrize(("d", "best"), [(0.3, 0.09), (0.9, 0.81), (2.0, 3.0)])
def test_is_least_where_the_variance_is_the_squared_error(d: float, best: float) -> None:
    """d^2 within 1; beyond, 2 |d| - 1."""
    alpha = torch.linspace(-6, 4, 20_001, dtype=torch.float64)
    values = KL()(torch.full((20_001, 4), d).double(), torch.zeros(20_001, 4).double(), alpha[:, None].expand(-1, 4))
    assert alpha[values.argmin()].exp().item() == pytest.approx(best, rel=2e-3)


def test_gradients_and_extremes() -> None:
    codes = (torch.randn(6, 4, dtype=torch.float64) * 2).requires_grad_()
    spread = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(KL(), (codes, torch.zeros(6, 4).double(), spread))
    for value in (-100.0, 100.0):
        x, a = torch.full((1, 4), 50.0, requires_grad=True), torch.full((1, 4), value, requires_grad=True)
        KL()(x, torch.zeros(1, 4), a).sum().backward()
        assert x.grad is not None
        assert a.grad is not None
        assert x.grad.isfinite().all()
        assert a.grad.isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    codes, spread = torch.randn(5, 4).bfloat16(), torch.randn(5, 4).bfloat16()
    assert KL()(codes, torch.zeros(5, 4), spread).dtype == torch.float32


def test_a_floor_above_zero_is_refused() -> None:
    with pytest.raises(PartError, match="below 0"):
        KL(least_log_variance=0.0)
