"""CSP-PAN: published counts, sizes, who sees whom, refusals."""

from __future__ import annotations

import pytest
from neck_cases import SMALL, check_exports, check_learns, connected, conv_bn, count, levels, maps

from torso.necks.csp_pan import CSPPAN


def test_published_counts() -> None:
    """mmdetection's YOLOXPAFPN at width 1 has 19.98 M; yolox_s (half the width, depth 1) 2,950,144."""
    neck = CSPPAN(levels(256, 512, 1024), coarsest=32)
    assert round(count(neck) / 1e6, 2) == 19.98
    assert count(CSPPAN(levels(128, 256, 512), channels=128, depth=1, coarsest=32)) == 2_950_144


def test_each_level_keeps_its_width_without_channels() -> None:
    bare = CSPPAN(levels(128, 256, 512), channels=None, depth=1, coarsest=32)
    assert [s.channels for s in bare.out_specs] == [128, 256, 512]
    assert count(bare) == 2_950_144 - sum(conv_bn(c, 128, 1) for c in (128, 256, 512))


@pytest.mark.parametrize(("finest", "coarsest"), [(4, 32), (8, 128), (32, 32)])
@pytest.mark.parametrize("size_hw", [(128, 128), (109, 179)])
def test_out_specs_are_true(finest: int, coarsest: int, size_hw: tuple[int, int]) -> None:
    neck = CSPPAN(SMALL, channels=16, depth=1, finest=finest, coarsest=coarsest)
    out = neck(maps(size_hw))
    assert [s.stride for s in neck.out_specs] == [s for s in (4, 8, 16, 32, 64, 128) if finest <= s <= coarsest]
    for spec, x in zip(neck.out_specs, out, strict=True):
        assert x.shape == (2, spec.channels, *(-(-v // spec.stride) for v in size_hw))


def test_backbones_that_round_down() -> None:
    x = maps((109, 179), floor=True)
    assert [m.shape[-2:] for m in CSPPAN(SMALL, channels=16, depth=1, finest=4, coarsest=32)(x)] == [
        m.shape[-2:] for m in x
    ]


def test_every_level_sees_every_level() -> None:
    neck = CSPPAN(SMALL, channels=16, widths=(8, 8, 16, 16), depth=1, finest=4, coarsest=32)
    assert all(map(all, connected(neck, maps((64, 64)))))


def test_it_learns_everywhere_and_is_exported() -> None:
    neck = CSPPAN(SMALL, channels=16, widths=(16, 16, 16), depth=2)
    check_learns(neck, maps((64, 96)))
    check_exports(neck, maps((70, 90)))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"CSPPAN starts at stride 2, .* strides \[4, 8, 16, 32\]: set neck.finest"):
        CSPPAN(SMALL, finest=2)
    with pytest.raises(ValueError, match="3 levels of the backbone but 2 channels"):
        CSPPAN(SMALL, widths=(8, 16))
    with pytest.raises(ValueError, match="depth: expected a whole number of at least 1"):
        CSPPAN(SMALL, depth=0)


def test_c2f_layers_join_without_narrowing() -> None:
    """Widths 64, 128, 256 and depth 1, the smallest of the v8 style: four layers, two convolutions."""
    neck = CSPPAN(levels(64, 128, 256), channels=None, depth=1, layer="c2f", coarsest=32)

    def c2f(a: int, b: int) -> int:
        return conv_bn(a, b, 1) + 2 * conv_bn(b // 2, b // 2, 3) + conv_bn(3 * b // 2, b, 1)

    layers = c2f(256 + 128, 128) + c2f(128 + 64, 64) + c2f(64 + 128, 128) + c2f(128 + 256, 256)
    assert count(neck) == layers + conv_bn(64, 64, 3) + conv_bn(128, 128, 3)
    assert [s.channels for s in neck.out_specs] == [64, 128, 256]
    small = CSPPAN(SMALL, channels=None, depth=1, layer="c2f", finest=4, coarsest=32)
    assert all(map(all, connected(small, maps((64, 64)))))
    check_learns(CSPPAN(SMALL, channels=16, depth=2, layer="c2f"), maps((70, 90)))
