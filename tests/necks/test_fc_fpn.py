"""Fully connected FPN: every input reaches every output over exactly one convolution; sizes, options, errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from torso.necks._move import move
from torso.necks.fc_fpn import FCFPN
from torso.types import FeatureSpec

SPECS = tuple(FeatureSpec(c, (s, s)) for c, s in ((8, 4), (12, 8), (16, 16), (24, 32)))
FIVE = tuple(FeatureSpec(6, (s, s)) for s in (8, 16, 32, 64, 128))


def maps(specs: tuple[FeatureSpec, ...] = SPECS, size: int = 128) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(2, s.channels, -(-size // s.stride), -(-size // s.stride), generator=g) for s in specs]


class _Times3(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 3


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("edge_conv", [False, True])
def test_every_path_has_one_convolution_a_layer(edge_conv: bool, repeats: int) -> None:
    """With every convolution replaced by a factor of 3, each output is 3 times the sum of the inputs."""
    neck = FCFPN(FIVE, channels=6, repeats=repeats, edge_conv=edge_conv)
    for layer in neck.layers:
        for convs in (layer.edges, layer.nodes):
            for i in range(len(convs)):
                convs[i] = _Times3()
    for i in range(5):
        x = [torch.full((1, 6, 256 // s.stride, 256 // s.stride), float(i == j)) for j, s in enumerate(FIVE)]
        for out in neck(x):
            assert (out == 3.0**repeats * 5 ** (repeats - 1)).all()  # one path in one layer, five in two


@pytest.mark.parametrize("edge_conv", [False, True])
@pytest.mark.parametrize("fusion", ["sum", "fast", "softmax"])
def test_parameters_gradients_and_connectivity(edge_conv: bool, fusion: str) -> None:
    torch.manual_seed(0)
    neck = FCFPN(FIVE, channels=6, repeats=2, edge_conv=edge_conv, fusion=fusion)  # type: ignore[arg-type]
    conv = 6 * 9 + 6 * 6 + 2 * 6
    weights = 0 if fusion == "sum" else 25
    assert sum(p.numel() for p in neck.parameters()) == 2 * ((25 if edge_conv else 5) * conv + weights)
    assert len({id(p) for p in neck.parameters()}) == sum(1 for _ in neck.parameters())
    x = [m.requires_grad_() for m in maps(FIVE)]
    out = neck(x)
    for o in out:
        assert all(g.any() for g in torch.autograd.grad((o * torch.randn_like(o)).sum(), x, retain_graph=True))
    sum((o * torch.randn_like(o)).sum() for o in out).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in neck.parameters())


def test_a_layer_is_the_formula_of_its_docstring() -> None:
    neck = FCFPN(FIVE, channels=6, repeats=1, fusion="fast").eval()
    with torch.no_grad():
        neck.weights.weight.uniform_(0.1, 2)
    x = maps(FIVE, 200)
    out = neck(x)
    for j, target in enumerate(FIVE):
        w = neck.weights.weight[5 * j : 5 * j + 5]
        size = (x[j].shape[-2], x[j].shape[-1])
        moved = [move(m, s.stride, target.stride, size) for m, s in zip(x, FIVE, strict=True)]
        total = sum(wi / (1e-4 + w.sum()) * m for wi, m in zip(w, moved, strict=True))
        torch.testing.assert_close(out[j], neck.layers[0].nodes[j](total))


@pytest.mark.parametrize(("finest", "coarsest"), [(8, 128), (4, 64), (8, 32), (32, 32)])
def test_any_levels_and_sizes(finest: int, coarsest: int) -> None:
    neck = FCFPN(SPECS, channels=8, repeats=2, finest=finest, coarsest=coarsest)
    strides = [s for s in (4, 8, 16, 32, 64, 128) if finest <= s <= coarsest]
    assert [s.stride for s in neck.out_specs] == strides
    for size in (128, 100, 333):
        assert [m.shape[-1] for m in neck(maps(size=size))] == [-(-size // s) for s in strides]


@pytest.mark.parametrize("edge_conv", [False, True])
def test_is_exported_and_leaves_its_inputs(edge_conv: bool) -> None:
    neck = FCFPN(FIVE, channels=6, repeats=1, edge_conv=edge_conv).eval()
    x = maps(FIVE, 100)
    before = [m.clone() for m in x]
    with torch.no_grad():
        for ours, exported in zip(neck(x), torch.export.export(neck, (x,)).module()(x), strict=True):
            torch.testing.assert_close(exported, ours)
    assert all(torch.equal(a, b) for a, b in zip(x, before, strict=True))


def test_errors_say_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"FCFPN starts at stride 64, .*\[4, 8, 16, 32\]: set neck.finest"):
        FCFPN(SPECS, finest=64)
    with pytest.raises(ValueError, match="channels: expected a whole number of at least 1"):
        FCFPN(SPECS, channels=0)
