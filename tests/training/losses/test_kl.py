"""KL loss: the paper's formula, golden values, its minimum, gradients, finite at the extremes."""

from __future__ import annotations

import math

import pytest
import torch

from torso.parts import PartError
from torso.training.losses.kl import KLLoss
from torso.training.losses.smooth_l1 import SmoothL1Loss


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
    assert KLLoss()(zeros + d, zeros, zeros + alpha).item() == pytest.approx(4 * wanted)


def test_is_smooth_l1_where_sigma_is_one_and_where_none_is_given() -> None:
    prediction, target = torch.randn(2, 50, 4) * 2
    torch.testing.assert_close(KLLoss()(prediction, target, torch.zeros(50, 4)), SmoothL1Loss()(prediction, target))
    torch.testing.assert_close(KLLoss()(prediction, target), SmoothL1Loss()(prediction, target))


def test_is_the_divergence_from_the_density_up_to_its_constant() -> None:
    d, sigma = torch.tensor([[0.3, -0.7, 0.9, 0.1]], dtype=torch.float64), torch.tensor([[0.5, 1.5, 2.0, 0.2]]).double()
    density = torch.distributions.Normal(torch.zeros(1, 4).double(), sigma).log_prob(d)
    expected = (-density - 0.5 * math.log(2 * math.pi)).sum(-1)
    torch.testing.assert_close(KLLoss()(d, torch.zeros_like(d), 2 * sigma.log()), expected)


@pytest.mark.parametrize(("d", "best"), [(0.3, 0.09), (0.9, 0.81), (2.0, 3.0)])
def test_is_least_where_the_variance_is_the_squared_error(d: float, best: float) -> None:
    """d^2 within 1; beyond, 2 |d| - 1."""
    alpha = torch.linspace(-6, 4, 20_001, dtype=torch.float64)
    values = KLLoss()(
        torch.full((20_001, 4), d).double(), torch.zeros(20_001, 4).double(), alpha[:, None].expand(-1, 4)
    )
    assert alpha[values.argmin()].exp().item() == pytest.approx(best, rel=2e-3)


def test_gradients_and_extremes() -> None:
    codes = (torch.randn(6, 4, dtype=torch.float64) * 2).requires_grad_()
    spread = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(KLLoss(), (codes, torch.zeros(6, 4).double(), spread))
    for value in (-100.0, 100.0):
        x, a = torch.full((1, 4), 50.0, requires_grad=True), torch.full((1, 4), value, requires_grad=True)
        KLLoss()(x, torch.zeros(1, 4), a).sum().backward()
        assert x.grad is not None
        assert a.grad is not None
        assert x.grad.isfinite().all()
        assert a.grad.isfinite().all()


def slope(d: float, alpha: float, least: float = -12.0) -> tuple[float, float]:
    """How the loss of one code grows with its error and with its log variance."""
    x, a = (torch.tensor([[value]], dtype=torch.float64, requires_grad=True) for value in (d, alpha))
    KLLoss(least_log_variance=least)(x, torch.zeros(1, 1).double(), a).sum().backward()
    assert x.grad is not None
    assert a.grad is not None
    return x.grad.item(), a.grad.item()


@pytest.mark.parametrize("alpha", [-12.001, -13.0, -40.0, -1e4])
@pytest.mark.parametrize("d", [0.5, -0.01, 3.0])
def test_an_overshoot_below_the_bound_is_pushed_back(d: float, alpha: float) -> None:
    """As hard as at the bound: the code's gradient is that of the bound, so the log variance may not stay behind."""
    code, spread = slope(d, alpha)
    smooth = d * d / 2 if abs(d) < 1 else abs(d) - 0.5
    assert spread == pytest.approx(0.5 - math.exp(12) * smooth)
    assert spread < 0, "a smaller loss lies at a larger variance"
    assert (code, spread) == pytest.approx(slope(d, -12.0))
    assert code == pytest.approx(math.exp(12) * max(-1.0, min(1.0, d)))


@pytest.mark.parametrize("alpha", [-12.001, -40.0])
@pytest.mark.parametrize("d", [0.0, 0.001])
def test_a_code_that_fits_does_not_push_further_below_the_bound(d: float, alpha: float) -> None:
    """There the loss would fall with the variance, which has no say any more."""
    assert slope(d, alpha)[1] == 0.0
    assert slope(d, -12.0)[1] > 0
    assert slope(d, -11.9)[1] > 0


@pytest.mark.parametrize(("d", "sign"), [(0.5, -1), (0.001, 1), (3.0, -1)])
def test_inside_the_bound_nothing_is_changed(d: float, sign: int) -> None:
    """To the last bit the gradient of the formula, with the sign of sigma^2's distance from the squared error."""
    for alpha in (-12.0, -11.5, -8.0):
        a = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
        smooth = d * d / 2 if d < 1 else d - 0.5
        (torch.exp(-a) * smooth + a / 2).backward()
        assert a.grad is not None
        assert slope(d, alpha)[1] == a.grad.item()
        if alpha == -12.0:
            assert sign * a.grad.item() > 0


@pytest.mark.parametrize("alpha", [-13.0, -100.0, float("-inf")])
def test_the_value_below_the_bound_is_that_of_the_bound(alpha: float) -> None:
    d, zeros = torch.tensor([[0.5, -2.0, 0.0, 0.1]]), torch.zeros(1, 4)
    at_bound = KLLoss()(d, zeros, zeros - 12.0)
    assert torch.equal(KLLoss()(d, zeros, zeros + alpha), at_bound)


def test_an_overshot_log_variance_comes_back_by_descent() -> None:
    """Of a code that is half a unit wrong, whose log variance fell to -30: it ends at the squared error's."""
    a = torch.full((1, 1), -30.0, requires_grad=True)
    optimizer = torch.optim.SGD([a], lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        KLLoss()(torch.full((1, 1), 0.5), torch.zeros(1, 1), a).sum().backward()
        torch.nn.utils.clip_grad_norm_([a], 1.0)
        optimizer.step()
    assert a.item() == pytest.approx(math.log(0.25), abs=0.01)


def test_the_bound_compiles_without_a_break() -> None:
    given = torch.tensor([[0.5, 0.0, -3.0, 0.2]]), torch.zeros(1, 4)

    def slopes(loss: object) -> torch.Tensor:
        a = torch.tensor([[-13.0, -13.0, -5.0, -40.0]], requires_grad=True)
        loss(*given, a).sum().backward()  # type: ignore[operator]
        assert a.grad is not None
        return a.grad

    torch._dynamo.reset()
    torch.testing.assert_close(slopes(torch.compile(KLLoss(), fullgraph=True, backend="aot_eager")), slopes(KLLoss()))


def test_half_precision_is_computed_in_float32() -> None:
    codes, spread = torch.randn(5, 4).bfloat16(), torch.randn(5, 4).bfloat16()
    assert KLLoss()(codes, torch.zeros(5, 4), spread).dtype == torch.float32


def test_a_floor_above_zero_is_refused() -> None:
    with pytest.raises(PartError, match="below 0"):
        KLLoss(least_log_variance=0.0)
