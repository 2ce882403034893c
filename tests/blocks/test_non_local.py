"""The non-local block against its definition, place by place."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from torso.blocks.non_local import NonLocal


def reference(block: NonLocal, x: Tensor) -> Tensor:
    """y_i = sum_j f(x_i, x_j) g(x_j) / C(x), in plain loops over places; then W_z, BatchNorm, + x."""

    def at(conv: nn.Module, v: Tensor) -> Tensor:
        return v if isinstance(conv, nn.Identity) else conv.weight[:, :, 0, 0] @ v + conv.bias

    b, _, h, w = x.shape
    y = torch.zeros(b, block.g.out_channels, h, w, dtype=x.dtype)
    places = [(r, c) for r in range(h) for c in range(w)]
    for n in range(b):
        for r, c in places:
            theta = at(block.theta, x[n, :, r, c])
            f = [float(theta @ at(block.phi, x[n, :, s, t])) for s, t in places]
            if block.form != "dot":
                f = [math.exp(value) for value in f]
            total = len(places) if block.form == "dot" else sum(f)
            for value, (s, t) in zip(f, places, strict=True):
                y[n, :, r, c] += value * at(block.g, x[n, :, s, t]) / total
    return block.norm(block.w_z(y)) + x


def woken(form: Literal["embedded_gaussian", "gaussian", "dot"], *, subsample: bool = False) -> NonLocal:
    torch.manual_seed(0)
    block = NonLocal(4, form=form, subsample=subsample).double().eval()
    nn.init.normal_(block.norm.weight)
    nn.init.normal_(block.norm.bias)
    return block


@pytest.mark.parametrize("form", ["embedded_gaussian", "gaussian", "dot"])
def test_equal_to_the_definition(form: Literal["embedded_gaussian", "gaussian", "dot"]) -> None:
    block, x = woken(form), torch.randn(2, 4, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(block(x), reference(block, x))


@pytest.mark.parametrize("norm", ["bn", "gn", "none"])
def test_starts_as_nothing(norm: Literal["bn", "gn", "none"]) -> None:
    x = torch.randn(2, 8, 4, 5)
    assert torch.equal(NonLocal(8, norm=norm)(x), x)


@pytest.mark.parametrize("form", ["embedded_gaussian", "gaussian", "dot"])
def test_gradients_reach_every_parameter_once_it_is_awake(
    form: Literal["embedded_gaussian", "gaussian", "dot"],
) -> None:
    block = woken(form).train()
    block(torch.randn(2, 4, 3, 5, dtype=torch.float64)).square().sum().backward()
    silent = [n for n, p in block.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a softmax does not change when phi's bias adds the same to every score; W_z's input is normalised
    assert silent in ([], ["phi.bias"])


def test_subsampling_looks_at_a_quarter_of_the_places() -> None:
    block, x = woken("dot", subsample=True), torch.randn(1, 4, 5, 6, dtype=torch.float64)
    seen = []
    block.w_z.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    block(x)
    theta = block.theta(x).flatten(2).mT
    phi, g = (torch.nn.functional.max_pool2d(m(x), 2, ceil_mode=True).flatten(2).mT for m in (block.phi, block.g))
    assert phi.shape[1] == 9
    torch.testing.assert_close(seen[0].flatten(2).mT, theta @ phi.mT @ g / 9)


def test_widths() -> None:
    block = NonLocal(12, reduction=3)
    assert (block.g.out_channels, block.w_z.in_channels, block.out_channels) == (4, 4, 12)
    with pytest.raises(ValueError, match="reduction: expected a whole number of at least 1, got 0"):
        NonLocal(8, reduction=0)
