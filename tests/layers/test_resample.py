"""Nearest-neighbour enlargement: the form for compiled CUDA code is torch's, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torso.layers.pyramid import repeat, upsample_nearest, whole_factors


@pytest.mark.parametrize("factors", [(2, 2), (3, 2), (4, 4), (1, 8), (16, 16)])
def test_repetition_is_torchs_nearest_forward_and_backward(factors: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 3, 5, dtype=torch.float64)
    size_hw = (3 * factors[0], 5 * factors[1])
    weight = torch.randn(2, 3, *size_hw, dtype=torch.float64)
    results = []
    for enlarge in (lambda y: repeat(y, *factors), lambda y: F.interpolate(y, size=size_hw, mode="nearest")):
        leaf = x.clone().requires_grad_()
        out = enlarge(leaf)
        (out * weight).sum().backward()
        results.append((out.detach(), leaf.grad))
    (ours, our_grad), (theirs, their_grad) = results
    assert torch.equal(ours, theirs)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(our_grad, their_grad)


def test_factors_are_of_rows_and_columns_and_only_whole() -> None:
    assert whole_factors((3, 5), (12, 5)) == (4, 1)
    assert whole_factors((3, 5), (48, 80)) == (16, 16)
    assert whole_factors((3, 5), (6, 9)) is None
    assert whole_factors((3, 5), (2, 5)) is None, "down is no repetition"


@pytest.mark.parametrize("size_hw", [(6, 10), (12, 20), (5, 9)])
def test_the_general_form_takes_any_size(size_hw: tuple[int, int]) -> None:
    x = torch.randn(1, 2, 3, 5)
    assert torch.equal(upsample_nearest(x, size_hw), F.interpolate(x, size=size_hw, mode="nearest"))


@pytest.mark.parametrize("factor", [4, 16])
def test_it_is_compiled_whole(factor: int) -> None:
    """Both forms in one graph, gradients included."""

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        return repeat(x, factor, factor), upsample_nearest(x, (3 * factor, 2 * factor))

    x = torch.randn(1, 4, 3, 2, requires_grad=True)
    ours, theirs = torch.compile(both, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(ours, theirs)
    (gradient,) = torch.autograd.grad((ours + theirs).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 2.0 * factor**2))


@pytest.mark.gpu
@pytest.mark.parametrize("factor", [2, 4, 16])
def test_compiled_on_cuda_it_is_the_same(factor: int) -> None:
    x = torch.randn(2, 8, 6, 10, device="cuda")
    size_hw = (6 * factor, 10 * factor)
    enlarged = torch.compile(upsample_nearest, fullgraph=True)(x, size_hw)
    assert torch.equal(enlarged, F.interpolate(x, size=size_hw, mode="nearest"))
