"""FastestDet's neck: one map at the middle stride, odd sizes, levels that are not there."""

from __future__ import annotations

import pytest
import torch

from torso.necks.fastestdet import FastestDet
from torso.types import FeatureSpec

SPECS = tuple(FeatureSpec(c, (s, s)) for c, s in ((24, 4), (48, 8), (96, 16), (192, 32)))


def test_one_map_of_odd_size_that_depends_on_all_three() -> None:
    neck = FastestDet(SPECS).eval()
    assert neck.out_specs == (FeatureSpec(96, (16, 16)),)
    maps = [torch.randn(1, s.channels, -(-72 // s.stride), -(-90 // s.stride), requires_grad=True) for s in SPECS]
    (out,) = neck(maps)
    assert out.shape == (1, 96, 5, 6)
    out.sum().backward()
    assert maps[0].grad is None
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps[1:])


def test_parameters_of_the_published_one() -> None:
    total = sum(p.numel() for p in FastestDet(SPECS).parameters())
    assert total == 336 * 96 + 288 * 96 + 96 * 96 + 6 * 25 * 96 + 9 * 192


def test_levels_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"gathers the levels of strides \[16, 32, 64\]"):
        FastestDet(SPECS, stride=32)
    with pytest.raises(ValueError, match="kernel: expected an odd whole number"):
        FastestDet(SPECS, kernel=4)
