"""Sizes of resized and padded images: what fits, what divides, and what never becomes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torso.geometry.resize import letterbox_size, padded_size, scaled_size, short_side_size

sides = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@given(size=sides, target=st.tuples(st.integers(32, 2000), st.integers(32, 2000)))
def test_letterbox_fits_and_touches(size: tuple[int, int], target: tuple[int, int]) -> None:
    h, w = letterbox_size(size, target)
    assert 1 <= h <= target[0]
    assert 1 <= w <= target[1]
    assert h == target[0] or w == target[1]


@given(size=sides)
def test_short_side_keeps_both_limits(size: tuple[int, int]) -> None:
    out = short_side_size(size, 800, 1333)
    assert min(out) <= 800
    assert max(out) <= 1333
    assert min(out) == 800 or max(out) == 1333


@given(sizes=st.lists(sides, min_size=1, max_size=5), divisor=st.sampled_from([1, 32, 128]))
def test_padding_holds_all_and_wastes_less_than_a_divisor(sizes: list[tuple[int, int]], divisor: int) -> None:
    h, w = padded_size(sizes, divisor)
    assert h % divisor == w % divisor == 0
    assert 0 <= h - max(s[0] for s in sizes) < divisor
    assert 0 <= w - max(s[1] for s in sizes) < divisor


@pytest.mark.parametrize(
    ("size", "want"),
    [((480, 640), (800, 1067)), ((427, 640), (800, 1199)), ((640, 427), (1199, 800)), ((100, 1000), (133, 1333))],
)
def test_short_side_golden(size: tuple[int, int], want: tuple[int, int]) -> None:
    assert short_side_size(size, 800, 1333) == want


def test_a_image_never_vanishes() -> None:
    assert scaled_size((1, 1000), 0.01) == (1, 10)
    assert letterbox_size((1, 5000), (64, 64)) == (1, 64)
