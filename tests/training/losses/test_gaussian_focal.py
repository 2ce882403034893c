"""Gaussian focal loss: golden values, closed form, stability, order."""

from __future__ import annotations

import pytest
import torch

from torso.parts import PartError
from torso.training.losses.gaussian_focal import GaussianFocalLoss


def test_golden_values() -> None:
    loss = GaussianFocalLoss()(torch.zeros(3), torch.tensor([1.0, 0.5, 0.0]))
    assert loss.tolist() == pytest.approx([0.1732868, 0.0108304, 0.1732868], abs=1e-7)


def test_closed_form_in_float64() -> None:
    x = torch.linspace(-6, 6, 25, dtype=torch.float64)
    p = x.sigmoid()
    for y in (1.0, 0.999, 0.3, 0.0):
        wanted = -((1 - p) ** 2) * p.log() if y == 1 else -((1 - y) ** 4) * p**2 * (1 - p).log()
        torch.testing.assert_close(GaussianFocalLoss()(x, torch.full_like(x, y)), wanted)


def test_gradient_agrees_with_differences() -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    heat = torch.tensor([1.0, 0.9, 0.0, 1.0, 0.5, 0.1, 0.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: GaussianFocalLoss()(v, heat), (x,))


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_saturated_logits_stay_finite_and_learn_where_they_are_wrong(logit: float) -> None:
    x = torch.full((2,), logit, requires_grad=True)
    GaussianFocalLoss()(x, torch.tensor([1.0, 0.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() == pytest.approx(1.0)


def test_half_precision_is_computed_in_float32() -> None:
    x = torch.linspace(-4, 4, 9)
    heat = torch.zeros(9)
    half = GaussianFocalLoss()(x.bfloat16(), heat)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, GaussianFocalLoss()(x.bfloat16().float(), heat))


def test_a_better_prediction_has_a_lower_loss() -> None:
    heat = torch.tensor([[0.0, 1.0, 0.4]])
    bad, fair, good = (torch.tensor([v]) for v in ([2.0, -2.0, 2.0], [0.0, 0.0, 0.0], [-3.0, 3.0, -1.0]))
    losses = [GaussianFocalLoss()(x, heat).sum().item() for x in (bad, fair, good)]
    assert losses == sorted(losses, reverse=True)


def test_negative_exponents_are_refused() -> None:
    with pytest.raises(PartError, match=r"beta: expected a number of at least 0, got -1\.0"):
        GaussianFocalLoss(beta=-1.0)
