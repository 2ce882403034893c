"""YOLOv3's neck: published counts, SPP in its first place, true specs, who sees whom."""

from __future__ import annotations

import pytest
from neck_cases import SMALL, check_exports, check_learns, connected, conv_bn, count, levels, maps

from torso.blocks.spp import SPP
from torso.necks.at_levels import AtLevels
from torso.necks.concat_fpn import ConcatFPN
from torso.parts import part


def test_published_counts() -> None:
    """mmdetection's YOLOV3Neck has 14,709,760; an SPP before it takes the place of the first five convolutions."""
    body = levels(256, 512, 1024)
    assert count(ConcatFPN(body)) == 14_709_760
    spp = AtLevels(body, block=part(SPP))
    assert count(spp) + count(ConcatFPN(spp.out_specs)) == 14_709_760 + conv_bn(4 * 512, 512, 1)


@pytest.mark.parametrize("size_hw", [(128, 128), (109, 179)])
@pytest.mark.parametrize("floor", [False, True])
def test_out_specs_are_true(size_hw: tuple[int, int], floor: bool) -> None:
    neck = ConcatFPN(SMALL, channels=(8, 8, 16, 24), finest=4)
    x = maps(size_hw, floor=floor)
    assert [m.shape for m in neck(x)] == [(2, s.channels, *m.shape[2:]) for s, m in zip(neck.out_specs, x, strict=True)]
    assert [s.stride for s in neck.out_specs] == [4, 8, 16, 32]


def test_a_level_sees_itself_and_the_coarser_ones() -> None:
    seen = connected(ConcatFPN(SMALL, channels=8, finest=4), maps((64, 64)))
    assert seen == [[j <= i for j in range(4)] for i in range(4)]


def test_a_coarsest_map_of_its_width_is_taken_as_it_is() -> None:
    neck = ConcatFPN(SMALL, channels=(8, 16, 20))
    x = maps((64, 64))
    assert neck(x)[-1] is x[-1]


def test_it_learns_everywhere_and_is_exported() -> None:
    neck = ConcatFPN(SMALL, channels=16)
    check_learns(neck, maps((64, 96)))
    check_exports(neck, maps((70, 90)))


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="3 levels of the backbone but 2 channels"):
        ConcatFPN(SMALL, channels=(8, 16))
    with pytest.raises(ValueError, match=r"starts at stride 8, but the incoming levels have strides \[16, 32\]"):
        ConcatFPN(SMALL[2:])
