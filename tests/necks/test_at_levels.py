"""A block at chosen levels: which, with weights of their own, and what is refused."""

from __future__ import annotations

import pytest
import torch

from torso.blocks.aspp import ASPP
from torso.blocks.attention import Attention
from torso.blocks.cbam import CBAM
from torso.blocks.non_local import NonLocal
from torso.blocks.rfb_s import RFBS
from torso.blocks.sam import SAM
from torso.blocks.spp import SPP
from torso.necks.at_levels import AtLevels
from torso.parts import part
from torso.types import FeatureSpec

SPECS = [FeatureSpec(c, (s, s)) for c, s in ((8, 4), (16, 8), (24, 16), (32, 32))]


def maps(specs: list[FeatureSpec] = SPECS) -> list[torch.Tensor]:
    return [torch.randn(2, s.channels, *(-(-109 // v) for v in s.stride_yx)) for s in specs]


@pytest.mark.parametrize(
    ("block", "keys"),
    [
        (part(SPP), ["32"]),
        (part(ASPP), ["32"]),
        (part(NonLocal), ["32"]),
        (part(Attention), ["32"]),
        (part(RFBS), ["8"]),
        (part(CBAM), ["8", "16", "32"]),
        (part(SAM), ["8", "16", "32"]),
    ],
)
def test_a_block_has_its_own_place(block: object, keys: list[str]) -> None:
    assert list(AtLevels(SPECS, block=block).blocks) == keys  # type: ignore[arg-type]


def test_finest_says_where_all_begins() -> None:
    assert list(AtLevels(SPECS, block=part(CBAM), finest=4).blocks) == ["4", "8", "16", "32"]
    assert list(AtLevels(SPECS, block=part(RFBS), finest=16).blocks) == ["16"]


def test_only_the_named_levels_change_each_by_its_own_block() -> None:
    torch.manual_seed(0)
    neck, x = AtLevels(SPECS, block=part(ASPP, channels=12), strides=(32, 8)).eval(), maps()
    y = neck(x)
    assert neck.out_specs == tuple(FeatureSpec(c, (s, s)) for c, s in ((8, 4), (12, 8), (24, 16), (12, 32)))
    assert [m.shape[1] for m in y] == [8, 12, 24, 12]
    assert y[0] is x[0]
    assert y[2] is x[2]
    torch.testing.assert_close(y[1], neck.blocks["8"](x[1]))
    torch.testing.assert_close(y[3], neck.blocks["32"](x[3]))
    eight, thirty_two = (list(neck.blocks[k].parameters()) for k in ("8", "32"))
    assert not {id(p) for p in eight} & {id(p) for p in thirty_two}


def test_levels_of_unequal_strides_are_part_of_all() -> None:
    specs = [FeatureSpec(8, (8, 8)), FeatureSpec(8, (8, 16)), FeatureSpec(8, (16, 16))]
    neck = AtLevels(specs, block=part(SAM))
    assert list(neck.blocks) == ["8", "8x16", "16"]
    assert [m.shape for m in neck(maps(specs))] == [m.shape for m in maps(specs)]
    with pytest.raises(ValueError, match=r"strides \[8, \(8, 16\), 16\]"):
        AtLevels(specs, block=part(SAM), strides=(32,))


@pytest.mark.parametrize(
    ("strides", "finest", "message"),
    [
        ((64,), 8, r"cannot put CBAM at stride 64: the levels here have strides \[4, 8, 16, 32\]; name each"),
        ((8, 8), 8, "at most once"),
        ((), 64, r"from 64 on, but the levels here have strides \[4, 8, 16, 32\]; say where it goes: strides=32"),
    ],
)
def test_impossible_levels_are_refused(strides: tuple[int, ...], finest: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AtLevels(SPECS, block=part(CBAM), strides=strides, finest=finest)
