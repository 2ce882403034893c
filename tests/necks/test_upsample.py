"""CenterNet's neck: sizes, stages by stride, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from torso.errors import PartError
from torso.necks.upsample import Upsample
from torso.types import FeatureSpec

SPECS = [FeatureSpec(c, (s, s)) for c, s in ((8, 4), (12, 8), (16, 16), (20, 32))]


@pytest.mark.parametrize("size_hw", [(64, 96), (109, 179)])
def test_one_level_of_the_maps_own_size(size_hw: tuple[int, int]) -> None:
    neck = Upsample(SPECS, widths=(16, 12, 8))
    maps = [torch.randn(2, s.channels, *(-(-v // s.stride) for v in size_hw)) for s in SPECS]
    (out,) = neck(maps)
    assert neck.out_specs == (FeatureSpec(8, (4, 4)),)
    assert out.shape == (2, 8, *(-(-v // 4) for v in size_hw))


def test_without_a_map_of_that_stride_every_stage_doubles() -> None:
    (out,) = Upsample(SPECS[2:], widths=(16, 12, 8), kernel=2)([torch.zeros(1, 16, 6, 8), torch.zeros(1, 20, 3, 4)])
    assert out.shape == (1, 8, 24, 32)


def test_a_backbone_that_ends_earlier_takes_the_last_widths() -> None:
    neck = Upsample(SPECS[2:3], widths=(16, 12, 8))
    assert [m.out_channels for m in neck.modules() if isinstance(m, torch.nn.ConvTranspose2d)] == [12, 8]
    assert neck([torch.zeros(2, 16, 4, 4)])[0].shape == (2, 8, 16, 16)


def test_gradients_reach_every_parameter() -> None:
    neck = Upsample(SPECS, widths=(16, 12, 8))
    neck([torch.randn(2, s.channels, 32 // s.stride, 32 // s.stride) for s in SPECS])[0].square().sum().backward()
    assert not [n for n, p in neck.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("finest", [3, 32, 64, 2])
def test_a_stride_out_of_reach_is_refused(finest: int) -> None:
    with pytest.raises(ValueError, match="coarsest incoming map, of stride 32"):
        Upsample(SPECS, finest=finest)


@pytest.mark.parametrize(("finest", "widths"), [(3, 3), (4, 2), (4, 1), (8, 1), (64, 3), (1, 3)])
def test_the_values_that_a_refusal_names_work(finest: int, widths: int) -> None:
    with pytest.raises(PartError, match=r"set neck\.finest") as refused:
        Upsample(SPECS, finest=finest, widths=(8,) * widths)
    ways = [way for way in refused.value.remedies if isinstance(way, Mapping)]
    assert len(ways) == len(refused.value.remedies)
    for way in ways:
        assert way.get("neck.finest") == way.get("head.finest")
        assert Upsample(SPECS, **{"finest": finest, "widths": (8,) * widths, **_of_the_neck(way)})
    assert any("neck.widths" in way for way in ways) == (finest in (1, 4, 8))


def _of_the_neck(way: Mapping[str, Any]) -> dict[str, Any]:
    return {path.removeprefix("neck."): value for path, value in way.items() if path.startswith("neck.")}


def test_kernels_that_do_not_double_are_refused() -> None:
    with pytest.raises(ValueError, match="kernel: expected one of 2, 4, got 3"):
        Upsample(SPECS, kernel=3)
