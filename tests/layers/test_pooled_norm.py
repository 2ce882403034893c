"""BatchNorm of pooled maps: torch's own, except where there is one value a channel."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torso.layers.pooled_norm import PooledBatchNorm2d


def pair() -> tuple[PooledBatchNorm2d, nn.BatchNorm2d]:
    torch.manual_seed(0)
    theirs = nn.BatchNorm2d(4)
    for value in (theirs.running_mean, theirs.weight.data):
        nn.init.normal_(value)
    nn.init.uniform_(theirs.running_var, 0.5, 2)
    ours = PooledBatchNorm2d(4)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("shape", [(2, 4, 1, 1), (1, 4, 1, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_is_torchs_where_there_are_values_to_compare(shape: tuple[int, ...], training: bool) -> None:
    ours, theirs = (m.train(training) for m in pair())
    x = torch.randn(shape)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)


def test_one_value_is_normalised_by_what_is_stored() -> None:
    ours, theirs = pair()
    x = torch.randn(1, 4, 1, 1, requires_grad=True)
    y = ours(x)
    torch.testing.assert_close(y, theirs.eval()(x))
    assert torch.equal(ours.running_mean, theirs.running_mean)
    assert ours.num_batches_tracked == 0
    y.sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()
