"""Levels, maps and counts that the tests of several necks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from torso.types import FeatureSpec

SMALL = [FeatureSpec(c, (s, s)) for c, s in ((8, 4), (12, 8), (16, 16), (20, 32))]


def levels(*channels: int, finest: int = 8) -> list[FeatureSpec]:
    """Levels of these widths, each twice the stride of the one before."""
    return [FeatureSpec(c, (finest << i, finest << i)) for i, c in enumerate(channels)]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def conv_bn(a: int, b: int, kernel: int) -> int:
    """Parameters of a convolution without bias and its BatchNorm."""
    return a * b * kernel * kernel + 2 * b


def maps(size_hw: tuple[int, int], specs: Sequence[FeatureSpec] = SMALL, floor: bool = False) -> list[Tensor]:
    """Random maps of the levels of an image; a strided convolution rounds sizes up, VGG's pooling down."""
    g = torch.Generator().manual_seed(0)

    def side(length: int, stride: int) -> int:
        return length // stride if floor else -(-length // stride)

    return [
        torch.randn(2, s.channels, side(size_hw[0], s.stride_yx[0]), side(size_hw[1], s.stride_yx[1]), generator=g)
        for s in specs
    ]


def connected(neck: nn.Module, x: list[Tensor], change: Callable[[Tensor], Tensor] | None = None) -> list[list[bool]]:
    """[input][output]: whether the output changes with the input; in eval mode, so that statistics carry nothing."""
    change = change or (lambda m: m + torch.randn(m.shape, generator=torch.Generator().manual_seed(1)))
    neck.eval()
    with torch.no_grad():
        before = neck(x)
        rows = []
        for i in range(len(x)):
            after = neck([change(m) if i == j else m for j, m in enumerate(x)])
            rows.append([not torch.equal(a, b) for a, b in zip(after, before, strict=True)])
    return rows


def check_learns(neck: nn.Module, x: list[Tensor]) -> None:
    """Every parameter gets a gradient, and the inputs stay as they were."""
    kept = [m.clone() for m in x]
    g = torch.Generator().manual_seed(2)
    torch.stack([(m * torch.randn(m.shape, generator=g)).sum() for m in neck.train()(x)]).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(x, kept, strict=True))
    without = [n for n, p in neck.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without, without


def check_exports(neck: nn.Module, x: list[Tensor]) -> None:
    """The exported program gives the same maps."""
    neck.eval()
    with torch.no_grad():
        exported = torch.export.export(neck, (x,)).module()(x)
        torch.testing.assert_close(list(exported), neck(x))
