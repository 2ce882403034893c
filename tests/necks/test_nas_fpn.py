"""NAS-FPN: published size, its graph by perturbing every edge, both gates, any size, and its errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from torso.necks.nas_fpn import CELLS, NASFPN, gated
from torso.types import FeatureSpec

SPECS = tuple(FeatureSpec(c, (s, s)) for c, s in ((8, 4), (12, 8), (16, 16), (24, 32)))
FIVE = tuple(FeatureSpec(6, (s, s)) for s in (8, 16, 32, 64, 128))


def maps(specs: tuple[FeatureSpec, ...] = SPECS, size: int = 128) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(2, s.channels, -(-size // s.stride), -(-size // s.stride), generator=g) for s in specs]


def test_published_parameters_of_a_stack() -> None:
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in NASFPN([FeatureSpec(256, (s, s)) for s in (8, 16, 32)], repeats=n).parameters())
            for n in (1, 7)
        ]
    assert counts == [4_134_144, 7 * 4_134_144]


def test_laterals_only_where_widths_differ() -> None:
    neck = NASFPN(SPECS, channels=16, repeats=1)
    assert [type(m) is nn.Identity for m in neck.lateral] == [False, True, False]
    assert [s.stride for s in neck.out_specs] == [8, 16, 32, 64, 128]


class _Linear(nn.Module):
    """Stands for a cell's convolution: every cell's output is its sum times a number of its own."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def published(p: list[float], factors: list[float], gate: float) -> list[float]:
    """The paper's figure on constant maps, a line a cell: GP(a, b) = coarser + finer * gate."""
    f = iter(factors)
    p3, p4, p5, p6, p7 = p
    n5 = next(f) * (p6 + p4 * gate)
    n6 = next(f) * (p4 + n5)
    out3 = next(f) * (p3 + n6)
    out4 = next(f) * (n6 + out3)
    out5 = next(f) * (out4 + out3 * gate + p5)
    out7 = next(f) * (out5 + n6 * gate + p7)
    out6 = next(f) * (out7 + out5 * gate)
    return [out3, out4, out5, out6, out7]


def test_the_graph_by_perturbing_every_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the gates held at 1/4 the graph is linear: every input and every cell must weigh what the figure says."""
    monkeypatch.setattr("torso.necks.nas_fpn.gated", lambda finer, coarser, gate: coarser + finer * 0.25)
    stack = NASFPN(FIVE, channels=6, repeats=1).stacks[0]
    factors = [1.0] * 7

    def run(p: list[float], factors: list[float]) -> list[float]:
        stack.cells = nn.ModuleList(map(_Linear, factors))
        out = stack([torch.full((1, 6, 256 // s.stride, 256 // s.stride), v) for s, v in zip(FIVE, p, strict=True)])
        assert all(float(m.min()) == float(m.max()) for m in out)
        return [float(m.max()) for m in out]

    base = [1.0, 2.0, 3.0, 5.0, 7.0]
    assert run(base, factors) == pytest.approx(published(base, factors, 0.25))
    for i in range(5):
        changed = [v + (3 if j == i else 0) for j, v in enumerate(base)]
        assert run(changed, factors) == pytest.approx(published(changed, factors, 0.25))
    for i in range(7):
        changed = [2.0 if j == i else 1.0 for j in range(7)]
        assert run(base, changed) == pytest.approx(published(base, changed, 0.25))
    assert len({tuple(published(base, [2.0 if j == i else 1.0 for j in range(7)], 0.25)) for i in range(7)}) == 7
    assert sum(len(c.inputs) + (c.also is not None) for c in CELLS) == 16


def test_gates() -> None:
    finer, coarser = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    ours = gated(finer, coarser, "max_from_coarser")
    torch.testing.assert_close(ours, coarser + finer * coarser.flatten(2).max(-1).values.sigmoid()[..., None, None])
    other = gated(finer, coarser, "avg_from_finer")
    torch.testing.assert_close(other, finer + coarser * finer.flatten(2).mean(-1).sigmoid()[..., None, None])


def test_a_cell_is_activation_convolution_norm() -> None:
    cell = NASFPN(FIVE, channels=6, repeats=1).stacks[0].cells[0].eval()
    x = torch.randn(1, 6, 5, 5)
    before = x.clone()
    torch.testing.assert_close(cell(x), cell.norm(cell.conv(x.relu())))
    assert torch.equal(x, before)
    assert cell.conv.bias is not None
    assert (cell.norm.eps, cell.norm.momentum) == (1e-3, 0.01)


@pytest.mark.parametrize("size", [128, 100, 70, 333])
def test_sizes_that_are_no_multiple_of_the_stride(size: int) -> None:
    neck = NASFPN(SPECS, channels=8, repeats=2)
    assert [m.shape[-1] for m in neck(maps(size=size))] == [-(-size // s) for s in (8, 16, 32, 64, 128)]


def test_maps_that_were_rounded_down() -> None:
    neck = NASFPN(SPECS, channels=8, repeats=1)
    x = [torch.randn(1, s.channels, 250 // s.stride, 250 // s.stride) for s in SPECS]
    assert [m.shape[-1] for m in neck(x)] == [31, 15, 7, 4, 2]


@pytest.mark.parametrize("gate", ["max_from_coarser", "avg_from_finer"])
def test_gradients_and_export(gate: str) -> None:
    torch.manual_seed(0)
    neck = NASFPN(SPECS, channels=8, repeats=2, finest=4, coarsest=64, gate=gate)  # type: ignore[arg-type]
    sum((m * torch.randn_like(m)).sum() for m in neck(maps())).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in neck.parameters())
    neck.eval()
    with torch.no_grad():
        for ours, exported in zip(neck(maps()), torch.export.export(neck, (maps(),)).module()(maps()), strict=True):
            torch.testing.assert_close(exported, ours)


def test_the_extra_levels_are_pooled_without_weights() -> None:
    neck = NASFPN(FIVE[:3], channels=6, repeats=1)
    p5 = torch.randn(1, 6, 5, 8)
    p6, p7 = neck.extra(p5)
    assert torch.equal(p6, torch.nn.functional.max_pool2d(p5, 2, 2, ceil_mode=True))
    assert tuple(p7.shape[-2:]) == (2, 2)


def test_five_levels_or_an_error_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"five levels.*\[8, 16, 32, 64, 128\].*\[4, 8, 16, 32\].*set coarsest=128"):
        NASFPN(SPECS, channels=8, coarsest=64)
    with pytest.raises(ValueError, match=r"they would be \[8, 32, 64, 128\]"):
        NASFPN([SPECS[1], SPECS[3]], channels=8)
    with pytest.raises(ValueError, match=r"NASFPN starts at stride 2, .*\[4, 8, 16, 32\]"):
        NASFPN(SPECS, channels=8, finest=2, coarsest=32)
    with pytest.raises(ValueError, match="repeats: expected a whole number of at least 1"):
        NASFPN(SPECS, repeats=0)
