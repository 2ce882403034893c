"""Priors and coders refuse, in a sentence, arguments that no box can have; also without a Part to check their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.coders.distribution import DistributionCoder
from torso.geometry.coders.ltrb import LTRBCoder
from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.points import Points
from torso.geometry.priors.shapes import Shapes
from torso.geometry.priors.ssd import SSDAnchors

STRIDES = [(8, 8), (16, 16)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"octave_scales": 0}, "octave_scales: expected a whole number of at least 1, got 0"),
        ({"base_scale": 0.0}, "base_scale: expected a number above 0"),
        ({"base_scale": -4.0}, "base_scale: expected a number above 0"),
        ({"base_scale": float("nan")}, "base_scale: expected a number above 0"),
        ({"base_scale": float("inf")}, "base_scale: expected a number above 0"),
        ({"ratios": (0.0,)}, r"ratios: expected a list of a number above 0, at least one, got \(0\.0,\)"),
        ({"ratios": (1.0, -1.0)}, "ratios"),
        ({"ratios": ()}, "ratios"),
        ({"aspects": ()}, "aspects"),
        ({"aspects": ((1.0, 0.0),)}, "aspects"),
        ({"sizes": ((), ())}, "sizes"),
        ({"sizes": ((16.0,), (-3.0,))}, "sizes"),
        ({"sizes": ((16.0,),)}, r"1 level.*reads 2.*one list of sides for each"),
        ({"rounded": True, "base_scale": 0.05}, "rounded.*0 x 0 px"),
        ({"stride_from": "side"}, "expected one of 'feature', 'image', got 'side'"),
    ],
)
def test_anchors(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Anchors(STRIDES, **arguments)


@pytest.mark.parametrize("unused", [{"base_scale": 0.0}, {"octave_scales": 0}, {"ratios": ()}])
def test_sizes_and_aspects_stand_in_place_of_scales_and_ratios(unused: dict[str, Any]) -> None:
    """Their bounds hold for these too: a signature states them whatever the other arguments are."""
    instead: dict[str, Any] = {"sizes": ((16.0,), (32.0,)), "aspects": ((1.4, 0.7),)}
    assert Anchors(STRIDES, **instead).per_location == (1, 1)
    with pytest.raises(ValueError, match=f"{next(iter(unused))}: expected"):
        Anchors(STRIDES, **instead, **unused)


@pytest.mark.parametrize("kind", [Points, Shapes, SSDAnchors])
def test_where_strides_come_from(kind: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="expected one of 'feature', 'image', got 'side'"):
        kind(STRIDES, stride_from="side")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DeltaCoder(max_log_ratio=-5.0), r"max_log_ratio: expected a number above 0 and at most 32, got -5\.0"),
        (lambda: DeltaCoder(max_log_ratio=1000.0), "max_log_ratio"),
        (lambda: DeltaCoder(weights=(1.0, 1.0, 0.0, 1.0)), "weights"),
        (lambda: LTRBCoder(max_exponent=1000.0), "max_exponent"),
        (lambda: LTRBCoder(max_exponent=0.0), "max_exponent"),
        (lambda: LTRBCoder(transform="square"), "expected one of 'exp', 'relu', 'none', got 'square'"),  # type: ignore[arg-type]
        (lambda: YOLOCoder(max_log_ratio=0.0), "max_log_ratio"),
        (lambda: YOLOCoder(size="cubic"), "expected one of 'exp', 'square', got 'cubic'"),  # type: ignore[arg-type]
        (lambda: YOLOCoder(scale_xy=((0, 1.2),)), "scale_xy: expected .*values \\(a whole number of at least 1"),
        (lambda: DistributionCoder(reg_max=0), "reg_max"),
    ],
)
def test_coders(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
