"""The moving average: its formula, its ramp, its swap."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from torso.engine.ema import EMA

GO, SKIP = torch.tensor(0.0), torch.tensor(1.0)


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def moved(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(torch.randn(value.shape) if value.is_floating_point() else 1)


def test_update_is_the_formula_for_weights_and_buffers():
    model = small()
    ema = EMA(model, 0.9, ramp=5.0)
    expected = {k: v.double() for k, v in model.state_dict().items()}
    for step in range(4):
        moved(model, step)
        ema.update(model, step, GO)
        d = 0.9 * (1 - math.exp(-(step + 1) / 5.0))
        expected = {k: d * expected[k] + (1 - d) * v.double() for k, v in model.state_dict().items()}
    for name, value in ema.average.items():
        if value.is_floating_point():
            assert torch.allclose(value.double(), expected[name], atol=1e-6), name
    assert ema.average["1.num_batches_tracked"] == model[1].num_batches_tracked


def test_decay_ramps_up_to_its_value():
    ema = EMA(small(), 0.999)
    decays = [ema.decay_at(step) for step in (0, 10, 1000, 100_000)]
    assert decays == sorted(decays)
    assert decays[0] < 0.001
    assert decays[-1] == pytest.approx(0.999)


def test_a_skipped_step_leaves_the_average():
    model = small()
    ema = EMA(model, 0.9)
    moved(model, 1)
    ema.update(model, 0, GO)
    before = {k: v.clone() for k, v in ema.average.items()}
    moved(model, 2)
    ema.update(model, 1, SKIP)
    assert all(torch.equal(before[k], v) for k, v in ema.average.items() if v.is_floating_point())


def test_swapped_shows_the_average_and_gives_the_weights_back_bit_for_bit_even_after_an_error():
    model = small()
    ema = EMA(model, 0.9)
    moved(model, 3)
    own = copy.deepcopy(model.state_dict())
    shown = []

    def fail_inside():
        with ema.swapped(model):
            shown.extend(torch.equal(v, ema.average[k]) for k, v in model.state_dict().items())
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert shown
    assert all(shown)
    assert all(torch.equal(v, own[k]) for k, v in model.state_dict().items())


def test_state_of_another_model_is_refused():
    ema = EMA(small(), 0.9)
    with pytest.raises(ValueError, match="another model"):
        ema.load_state_dict({"x": torch.zeros(1)})


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match="between 0 and 1"):
        EMA(small(), decay)
