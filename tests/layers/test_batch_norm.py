"""BatchNorm: torch's own numbers and compiled whole; one value a channel is refused with the remedies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torso.layers.batch_norm import BatchNorm2d
from torso.layers.conv import ConvNormAct


@pytest.mark.parametrize("shape", [(2, 4, 1, 1), (1, 4, 1, 2), (3, 4, 5, 6)])
@pytest.mark.parametrize("training", [True, False])
def test_is_torchs_where_there_are_values_to_compare(shape: tuple[int, ...], training: bool) -> None:
    ours, theirs = BatchNorm2d(4).train(training), nn.BatchNorm2d(4).train(training)
    x = torch.randn(shape)
    assert torch.equal(ours(x), theirs(x))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))


def test_one_value_a_channel_is_refused_in_training_with_the_remedies() -> None:
    layer = ConvNormAct(3, 8, kernel=1, norm="bn")
    with pytest.raises(ValueError, match=r"8 channels .* map of 1 x 1 of one .*batch size of 2.*norm=gn.*eval"):
        layer(torch.randn(1, 3, 1, 1))
    assert layer.eval()(torch.randn(1, 3, 1, 1)).isfinite().all()


def test_is_compiled_whole() -> None:
    layer = BatchNorm2d(4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(compiled(x), layer(x))
