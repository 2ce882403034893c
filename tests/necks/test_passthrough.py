"""YOLOv2's neck: where a fine place goes, sizes, refusals."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from neck_cases import SMALL, check_exports, check_learns, conv_bn, count, levels, maps

from torso.errors import PartError
from torso.necks.passthrough import Passthrough


def test_counts() -> None:
    """YOLOv2: 64 channels of 26 x 26 become 256 of 13 x 13 beside 1024."""
    neck = Passthrough(levels(512, 1024, finest=16))
    assert count(neck) == conv_bn(512, 64, 1) + 2 * conv_bn(1024, 1024, 3)
    assert [(s.channels, s.stride) for s in neck.out_specs] == [(1280, 32)]


def test_a_block_of_places_becomes_channels() -> None:
    neck = Passthrough(SMALL, narrow=3, channels=5, norm="none", activation="none").eval()
    with torch.no_grad():
        fine, coarse = maps((128, 160))[2:]
        narrow, (out,) = neck.narrow(fine), neck([None, None, fine, coarse])
    assert out.shape == (2, 3 * 4 + 5, 4, 5)
    for c in range(3):
        for i in range(2):
            for j in range(2):
                assert torch.equal(out[:, 4 * c + 2 * i + j], narrow[:, c, i::2, j::2])


@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize(("finest", "block"), [(16, 2), (8, 4)])
def test_sizes_that_hold_no_whole_blocks(finest: int, block: int, floor: bool) -> None:
    neck = Passthrough(SMALL, finest=finest, narrow=3, channels=5, convs=1)
    x = maps((109, 179), floor=floor)
    (out,) = neck(x)
    assert out.shape == (2, 3 * block * block + 5, *x[-1].shape[2:])
    assert neck.out_specs[0].channels == out.shape[1]


def test_it_learns_everywhere_and_is_exported() -> None:
    neck = Passthrough(SMALL, narrow=4, channels=8)
    check_learns(neck, maps((64, 96)))
    check_exports(neck, maps((70, 90)))


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="convs: expected a whole number of at least 0"):
        Passthrough(SMALL, convs=-1)
    with pytest.raises(ValueError, match=r"coarsest=64, .*set neck\.coarsest=32 and head\.finest=32"):
        Passthrough(SMALL, coarsest=64)
    with pytest.raises(ValueError, match=r"multiple of the first.*set neck\.finest=4 and"):
        Passthrough(SMALL, finest=32, coarsest=8)


@pytest.mark.parametrize(("finest", "coarsest"), [(8, 128), (16, 64), (3, 32), (32, 8), (64, 128), (16, 4), (5, 7)])
def test_the_values_that_a_refusal_names_work(finest: int, coarsest: int) -> None:
    with pytest.raises(PartError, match="set neck") as refused:
        Passthrough(SMALL, finest=finest, coarsest=coarsest)
    (said,) = refused.value.remedies
    assert isinstance(said, Mapping)
    named = {n: said[f"neck.{n}"] for n in ("finest", "coarsest") if f"neck.{n}" in said}
    neck = Passthrough(SMALL, **{"finest": finest, "coarsest": coarsest, **named})
    assert neck.out_specs[0].stride == said["head.finest"]
