"""The joining operator is torch.cat, its gradient the slices; and the compiler takes it."""

from __future__ import annotations

import torch

from torso.layers.pyramid import _join, _split, join_levels


def test_values_and_gradients_are_those_of_cat() -> None:
    torch.manual_seed(0)
    levels = [torch.randn(2, n, 3, dtype=torch.float64, requires_grad=True) for n in (5, 2, 1)]
    weight = torch.randn(2, 8, 3, dtype=torch.float64)
    ours = torch.autograd.grad((_join(levels) * weight).sum(), levels)
    theirs = torch.autograd.grad((torch.cat(levels, 1) * weight).sum(), levels)
    torch.testing.assert_close(_join(levels), torch.cat(levels, 1), rtol=0, atol=0)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert all(g.is_contiguous() for g in ours)


def test_operators_keep_their_promises_to_the_compiler() -> None:
    levels = [torch.randn(2, n, 3, requires_grad=True) for n in (5, 2)]
    torch.library.opcheck(_join, (levels,))
    torch.library.opcheck(_split, (torch.randn(2, 7, 3), [5, 2]))
    compiled = torch.compile(lambda x: _join(x).sum(), fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(levels), _join(levels).sum())


def test_elsewhere_it_is_plain_cat() -> None:
    levels = [torch.ones(1, 2, 3), torch.zeros(1, 1, 3)]
    assert torch.equal(join_levels(levels), torch.cat(levels, 1))
