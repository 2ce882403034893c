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
        ({"octave_scales": 0}, "octave_scales >= 1; 4.0 and 0 came"),
        ({"base_scale": 0.0}, "base_scale > 0"),
        ({"base_scale": -4.0}, "base_scale > 0"),
        ({"base_scale": float("nan")}, "base_scale > 0"),
        ({"base_scale": float("inf")}, "base_scale > 0"),
        ({"ratios": (0.0,)}, r"ratios.*\(0.0,\) came"),
        ({"ratios": (1.0, -1.0)}, "ratios"),
        ({"ratios": ()}, "ratios"),
        ({"aspects": ()}, "aspects"),
        ({"aspects": ((1.0, 0.0),)}, "aspects"),
        ({"sizes": ((), ())}, "sizes"),
        ({"sizes": ((16.0,), (-3.0,))}, "sizes"),
        ({"sizes": ((16.0,),)}, r"1 level.*reads 2.*one list of sides for each"),
        ({"rounded": True, "base_scale": 0.05}, "rounded.*0 x 0 px"),
        ({"stride_from": "image"}, "'image'.*feature, image"),
    ],
)
def test_anchors(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Anchors(STRIDES, **arguments)


def test_what_is_not_used_is_not_checked_for_anchors() -> None:
    """Sizes stand in place of base_scale and octave_scales, aspects of ratios."""
    made = Anchors(STRIDES, sizes=((16.0,), (32.0,)), aspects=((1.4, 0.7),), base_scale=0.0, octave_scales=0, ratios=())
    assert made.per_place == (1, 1)


@pytest.mark.parametrize("kind", [Points, Shapes, SSDAnchors])
def test_where_strides_come_from(kind: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"'image'.*feature, image"):
        kind(STRIDES, stride_from="image")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DeltaCoder(max_log_ratio=-5.0), r"max_log_ratio.*-5\.0 came"),
        (lambda: DeltaCoder(max_log_ratio=1000.0), "max_log_ratio"),
        (lambda: DeltaCoder(weights=(1.0, 1.0, 0.0, 1.0)), "weights"),
        (lambda: LTRBCoder(max_exponent=1000.0), "max_exponent"),
        (lambda: LTRBCoder(max_exponent=0.0), "max_exponent"),
        (lambda: LTRBCoder(transform="square"), "'square'.*exp, relu, none"),  # type: ignore[arg-type]
        (lambda: YOLOCoder(max_log_ratio=0.0), "max_log_ratio"),
        (lambda: YOLOCoder(size="cubic"), "'cubic'.*exp, square"),  # type: ignore[arg-type]
        (lambda: YOLOCoder(scale_xy=((0, 1.2),)), "strides"),
        (lambda: DistributionCoder(reg_max=0), "reg_max"),
    ],
)
def test_coders(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
