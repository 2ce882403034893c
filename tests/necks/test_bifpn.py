"""BiFPN: its graph by name, weights, poolings against TensorFlow's rule, odd sizes, any levels, and its errors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from torso.necks._bifpn_graph import bifpn_graph
from torso.necks._fusion import EdgeWeights, fuse
from torso.necks._move import max_pool, move
from torso.necks.bifpn import BiFPN
from torso.types import FeatureSpec

SPECS = tuple(FeatureSpec(c, (s, s)) for c, s in ((4, 2), (8, 4), (12, 8), (16, 16), (24, 32)))


def maps(size: int = 128, batch: int = 2) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(batch, s.channels, -(-size // s.stride), -(-size // s.stride), generator=g) for s in SPECS]


def test_the_graph_is_the_papers() -> None:
    """Figure 2(d) with P3..P7 as 0..4, as the authors' code numbers it."""
    assert [tuple(n) for n in bifpn_graph(5)] == [
        (3, (3, 4)), (2, (2, 5)), (1, (1, 6)), (0, (0, 7)),
        (1, (1, 7, 8)), (2, (2, 6, 9)), (3, (3, 5, 10)), (4, (4, 11)),
    ]  # fmt: skip
    for levels in range(2, 7):
        assert [n.level for n in bifpn_graph(levels)[-levels:]] == list(range(levels))
    with pytest.raises(ValueError, match="only one came; set finest or coarsest"):
        BiFPN(SPECS, finest=32, coarsest=32)


def test_every_output_sees_every_input_in_one_layer() -> None:
    """In both directions, which a plain top-down pyramid does not have."""
    torch.manual_seed(0)
    specs = [FeatureSpec(6, (s, s)) for s in (8, 16, 32, 64, 128)]
    neck = BiFPN(specs, channels=6, layers=1).eval()
    x = [torch.randn(1, 6, 512 // s.stride, 512 // s.stride) for s in specs]
    for i in range(5):
        x[i].requires_grad_()
    for out in neck(x):
        assert all(g is not None and g.any() for g in torch.autograd.grad(out.square().sum(), x, retain_graph=True))


def test_parameters_are_counted_by_the_graph_and_no_lateral_is_shared() -> None:
    """EfficientDet-D0's neck: 6 laterals with bias and norm, 8 separable nodes and 19 weights a layer."""
    specs = [FeatureSpec(c, (s, s)) for c, s in ((40, 8), (112, 16), (320, 32))]
    neck = BiFPN(specs, channels=64, layers=3, redundant_bias=True)
    assert sum(p.numel() for p in neck.parameters()) == 196_281
    convs = [m.conv for m in neck.layers[0].lateral if not isinstance(m, nn.Identity)]
    assert [c.in_channels for c in convs] == [320, 112, 40, 112, 320]
    assert len({id(p) for p in neck.parameters()}) == sum(1 for _ in neck.parameters())
    assert all(isinstance(m, nn.Identity) for layer in neck.layers[1:] for m in layer.lateral)
    without = BiFPN(specs, channels=64, layers=3)
    assert sum(p.numel() for p in without.parameters()) == 196_281 - 64 * (6 + 3 * 8)


def test_norms_have_the_papers_constants() -> None:
    norms = [m for m in BiFPN(SPECS, channels=8).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}
    assert all(n.act.inplace is False for n in BiFPN(SPECS, channels=8).layers[0].nodes)


@pytest.mark.parametrize("fusion", ["fast", "softmax"])
def test_weights_of_a_node_sum_to_one(fusion: str) -> None:
    weights = EdgeWeights(layers=2, edges=[2, 3, 1], fusion=fusion)  # type: ignore[arg-type]
    with torch.no_grad():
        weights.weight.copy_(torch.randn(12).abs() + 0.1)
    rows = weights()
    assert rows is not None
    for layer in range(2):
        raw = weights.weight.detach()[6 * layer : 6 * layer + 6]
        got = weights.of_nodes(rows[layer], torch.zeros(1, dtype=torch.float64))
        assert got[0][0].dtype == torch.float64
        for own, node in zip(raw.split([2, 3, 1]), got, strict=True):
            want = own.relu() / (1e-4 + own.relu().sum()) if fusion == "fast" else own.softmax(0)
            torch.testing.assert_close(torch.stack(node), want.double())
            assert float(want.sum()) == pytest.approx(1, abs=2e-3)
    assert weights.weight.requires_grad
    assert weights.weight.ndim == 1  # so it does not decay


def test_a_weight_below_zero_switches_its_edge_off_and_none_is_a_plain_sum() -> None:
    a, b = torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3)
    weights = EdgeWeights(layers=1, edges=[2], fusion="fast")
    with torch.no_grad():
        weights.weight.copy_(torch.tensor([-1.0, 0.5]))
    torch.testing.assert_close(fuse([a, b], weights.of_nodes(weights()[0], a)[0]), b * 0.5 / 0.5001)
    plain = EdgeWeights(layers=1, edges=[2], fusion="sum")
    assert not list(plain.parameters())
    torch.testing.assert_close(fuse([a, b], plain.of_nodes(plain(), a)[0]), a + b)


@pytest.mark.parametrize(("stride", "kernel"), [(2, 3), (2, 2), (4, 5), (8, 8), (16, 17)])
@pytest.mark.parametrize("size", [(1, 2), (5, 8), (16, 33), (31, 32)])
def test_pooling_is_tensorflows_same(size: tuple[int, int], stride: int, kernel: int) -> None:
    """Against its rule written out: total padding, the odd one behind, of minus infinity."""
    x = torch.randn(1, 2, *size)
    pads = []
    for n in reversed(size):
        total = max((math.ceil(n / stride) - 1) * stride + kernel - n, 0)
        pads += [total // 2, total - total // 2]
    want = F.max_pool2d(F.pad(x, pads, value=-torch.inf), kernel, stride)
    assert torch.equal(max_pool(x, stride, kernel), want)
    assert max_pool(x, stride, kernel, "symmetric").shape == want.shape
    if (stride, kernel) == (2, 3):
        assert torch.equal(max_pool(x, 2, 3, "symmetric"), F.max_pool2d(x, 3, 2, 1))


def test_maps_move_to_the_size_of_their_level() -> None:
    x = torch.randn(1, 2, 25, 13)
    assert move(x, 8, 16, (13, 7)).shape[-2:] == (13, 7)
    assert move(x, 8, 16, (12, 6)).shape[-2:] == (12, 6)  # a backbone that rounds down
    assert torch.equal(move(x, 16, 8, (49, 26)), F.interpolate(x, size=(49, 26)))
    assert move(x, 8, 8, (25, 13)) is x


@pytest.mark.parametrize(("finest", "coarsest"), [(8, 128), (4, 64), (8, 32), (16, 32), (2, 256)])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_any_levels_and_sizes(finest: int, coarsest: int, padding: str) -> None:
    neck = BiFPN(SPECS, channels=8, layers=2, finest=finest, coarsest=coarsest, padding=padding)  # type: ignore[arg-type]
    strides = [2**i for i in range(1, 9) if finest <= 2**i <= coarsest]
    assert [s.stride for s in neck.out_specs] == strides
    for size in (128, 100, 70):
        out = neck(maps(size))
        assert [tuple(m.shape) for m in out] == [(2, 8, -(-size // s), -(-size // s)) for s in strides]


def test_maps_that_were_rounded_down_and_levels_that_are_left_out() -> None:
    specs = [FeatureSpec(c, (s, s)) for c, s in ((8, 8), (8, 32))]
    neck = BiFPN(specs, channels=8, layers=2, coarsest=64)
    out = neck([torch.randn(1, 8, 31, 31), torch.randn(1, 8, 7, 7)])
    assert [m.shape[-1] for m in out] == [31, 7, 4]


@pytest.mark.parametrize("fusion", ["fast", "softmax", "sum"])
def test_gradients_reach_every_parameter(fusion: str) -> None:
    torch.manual_seed(0)
    neck = BiFPN(SPECS, channels=8, layers=2, fusion=fusion, redundant_bias=True)  # type: ignore[arg-type]
    sum((m * torch.randn_like(m)).sum() for m in neck(maps())).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in neck.parameters())
    if fusion != "sum":
        assert (neck.weights.weight.grad != 0).all()


def test_a_neck_follows_a_neck_without_laterals() -> None:
    first = BiFPN(SPECS, channels=8, layers=1)
    second = BiFPN(first.out_specs, channels=8, layers=1)
    assert all(isinstance(m, nn.Identity) for m in second.layers[0].lateral)
    assert [m.shape[-1] for m in second(first(maps()))] == [16, 8, 4, 2, 1]


def test_is_exported_and_initialised() -> None:
    neck = BiFPN(SPECS, channels=16, layers=1).eval()
    x = maps(100)
    with torch.no_grad():
        for ours, exported in zip(neck(x), torch.export.export(neck, (x,)).module()(x), strict=True):
            torch.testing.assert_close(exported, ours)
    point = neck.layers[0].nodes[0].conv.pointwise.weight
    assert 0.9 * (6 / 32) ** 0.5 < float(point.detach().abs().max()) <= (6 / 32) ** 0.5
    for a, b in itertools.pairwise(m.shape[-1] for m in neck(x)):
        assert b == -(-a // 2)


def test_errors_name_the_level_the_offer_and_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"BiFPN starts at stride 64, .*\[2, 4, 8, 16, 32\]: set neck.finest"):
        BiFPN(SPECS, finest=64)
    with pytest.raises(ValueError, match="layers: expected a whole number of at least 1"):
        BiFPN(SPECS, layers=0)
