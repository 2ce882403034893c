"""Input policies: where tiles lie, how large each look is, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from torso.geometry.tiling import tile_origins, tile_windows
from torso.inputs._base import Input
from torso.inputs._stack import stacked, tiled_part
from torso.inputs.fixed import Fixed
from torso.inputs.letterbox import Letterbox
from torso.inputs.pyramid import Pyramid
from torso.inputs.short_side import ShortSide
from torso.inputs.tiles import Tiles
from torso.parts import PartError, part


def slices(length: int, tile: int, overlap: float) -> list[int]:
    """SAHI's rule as its loop states it: steps of tile - int(tile * overlap), the last pushed back inside."""
    found, end = [], 0
    while end < length:
        begin = end - int(overlap * tile) if end else 0
        end = begin + tile
        found.append(max(0, length - tile) if end > length else begin)
    return found


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 115, 116, 640, 1000])
@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.2, 0.5, 0.9])
def test_origins_are_sahis(length: int, overlap: float) -> None:
    assert list(tile_origins(length, 64, overlap)) == slices(length, 64, overlap)


@pytest.mark.parametrize("size_hw", [(64, 64), (65, 300), (300, 40), (200, 333)])
def test_tiles_cover_the_image_and_stay_inside(size_hw: tuple[int, int]) -> None:
    windows = tile_windows(size_hw, (64, 80), 0.2)
    seen = {(y, x) for x1, y1, x2, y2 in windows for y in range(y1, y2) for x in range(x1, x2)}
    assert len(seen) == size_hw[0] * size_hw[1]
    assert all(0 <= x1 < x2 <= size_hw[1] and 0 <= y1 < y2 <= size_hw[0] for x1, y1, x2, y2 in windows)
    assert {(y2 - y1, x2 - x1) for x1, y1, x2, y2 in windows} == {(min(64, size_hw[0]), min(80, size_hw[1]))}
    assert len(set(windows)) == len(windows)


def test_the_whole_image_comes_last_and_only_beside_several_tiles() -> None:
    tiles = Tiles(size_hw=(64, 64))
    assert tiles.windows((100, 64)) == ((0, 0, 64, 64), (0, 36, 64, 100), (0, 0, 64, 100))
    assert tiles.windows((64, 40)) == ((0, 0, 40, 64),)
    assert Tiles(size_hw=(64, 64), whole=False).windows((100, 64)) == tiles.windows((100, 64))[:2]


def test_a_tile_is_shown_as_the_policy_inside_shows_a_image() -> None:
    tiles = Tiles(size_hw=(64, 64), inner=part(ShortSide, short=100, longest=150))
    assert [view.size_hw for view in tiles.views((64, 128), 32)] == [(100, 100), (100, 100), (100, 100), (75, 150)]
    assert {view.canvas_hw for view in tiles.views((64, 128), 32)} == {(128, 128), (96, 160)}
    assert Tiles(size_hw=(64, 80)).resized((64, 80)) == (64, 80), "without one, at its own pixels"


def test_fixed_gives_the_aspect_up() -> None:
    fixed = Fixed(size_hw=(300, 200))
    assert fixed.resized((50, 999)) == (300, 200)
    assert fixed.padded([(300, 200)], 32) == (320, 224)


def test_a_pyramid_scales_size_and_canvas() -> None:
    pyramid = Pyramid(scales=(0.5, 1.0), flip=True, inner=part(Letterbox, size_hw=(64, 96)))
    views = pyramid.views((32, 96), 32)
    assert [(v.size_hw, v.canvas_hw, v.flipped) for v in views] == [
        ((16, 48), (32, 64), False), ((16, 48), (32, 64), True),
        ((32, 96), (64, 96), False), ((32, 96), (64, 96), True),
    ]  # fmt: skip
    plain = ShortSide(short=60, longest=99)
    (own,) = Pyramid(scales=(1.0,), inner=part(ShortSide, short=60, longest=99)).views((45, 77), 32)
    assert own == plain.views((45, 77), 32)[0]


def test_stacking_keeps_the_pyramid_inside_the_tiles() -> None:
    own = Letterbox(size_hw=(64, 64))
    both = stacked(own, tiles=32, pyramid=(0.5, 1.0))
    assert isinstance(both, Tiles)
    assert isinstance(both.inner, Pyramid)
    assert both.inner.inner is own
    assert len(both.views((64, 64), 32)) == 2 * (9 + 1), "step 26: 0, 26, 32"
    again = stacked(both, tiles=Tiles(size_hw=(40, 40), overlap=0.0), pyramid=(2.0,))
    assert isinstance(again, Tiles)
    assert again.size_hw == (40, 40)
    assert isinstance(again.inner, Pyramid)
    assert again.inner.scales == (2.0,)
    assert again.inner.inner is own
    assert stacked(own) is own


def test_parts_are_tiled_for_recipes() -> None:
    own = part(Letterbox, size_hw=(64, 64))
    tiled = tiled_part(own, size_hw=(32, 32), overlap=None)
    assert tiled == part(Tiles, size_hw=(32, 32), inner=own)
    assert tiled_part(tiled, size_hw=None, overlap=0.5) == part(Tiles, size_hw=(32, 32), inner=own, overlap=0.5)


@pytest.mark.parametrize(
    ("policy", "arguments", "said"),
    [
        (
            Tiles,
            {"size_hw": (0, 640)},
            r"size_hw: expected 2 values \(a whole number of at least 1, a who.*, got \(0, 640\)",
        ),
        (Tiles, {"overlap": 1.0}, r"overlap: expected a number from 0 to 0\.9, got 1\.0"),
        (Tiles, {"overlap": -0.1}, "0 to 0.9"),
        (Tiles, {"merge": "wbf"}, "merge: expected one of 'suppression', 'union', got 'wbf'"),
        (Tiles, {"min_visible": 0.0}, "above 0"),
        (Tiles, {"inner": part(Tiles)}, "Tiles.inner: expected a policy of one tile, .*got tiles"),
        (Pyramid, {"scales": ()}, "above 0"),
        (Pyramid, {"scales": (1.0, -2.0)}, "above 0"),
        (Pyramid, {"scales": (1.0, 1.0)}, "different"),
        (Pyramid, {"scales": (float("nan"),)}, "above 0"),
        (Pyramid, {"scales": (1.0,), "ranges": ((0.0, 9.0), (4.0, 5.0))}, "a pair"),
        (Pyramid, {"inner": part(Tiles)}, "put the pyramid into Tiles.inner"),
        (Pyramid, {"inner": part(Pyramid)}, "one pyramid all scales"),
        (
            Fixed,
            {"size_hw": (0, 5)},
            r"size_hw: expected 2 values \(a whole number of at least 1, a who.*, got \(0, 5\)",
        ),
    ],
)
def test_refusals(policy: type[Input], arguments: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, PartError), match=said):
        policy(**arguments)
