"""ASFF: the weights, the count of YOLOv3's case, sizes, who sees whom."""

from __future__ import annotations

import pytest
import torch
from neck_cases import SMALL, check_exports, check_learns, connected, conv_bn, count, levels, maps

from torso.necks.asff import ASFF
from torso.necks.fpn import FPN


def test_yolov3s_case_by_hand() -> None:
    """Levels /8, /16, /32 fused in 256, 256, 512 and expanded to 256, 512, 1024 (the authors' code)."""
    to_coarsest = conv_bn(256, 512, 3) + conv_bn(256, 512, 3)  # from /16, and from /8 behind a max-pool
    to_middle = conv_bn(512, 256, 1) + conv_bn(256, 256, 3)
    to_finest = conv_bn(512, 256, 1)  # /16 has the width already
    weights = 3 * conv_bn(512, 16, 1) + 6 * conv_bn(256, 16, 1) + 3 * (48 * 3 + 3)
    expand = conv_bn(256, 256, 3) + conv_bn(256, 512, 3) + conv_bn(512, 1024, 3)
    neck = ASFF(levels(256, 256, 512), channels=(256, 512, 1024), coarsest=32)
    assert count(neck) == to_coarsest + to_middle + to_finest + weights + expand
    assert [s.channels for s in neck.out_specs] == [256, 512, 1024]


def test_weights_are_positive_and_sum_to_one_at_each_pixel() -> None:
    torch.manual_seed(0)
    fusion = ASFF(levels(8, 8, 8), channels=8, coarsest=32).fuse[1]
    torch.nn.init.normal_(fusion.weigh.weight, std=3)
    weights = fusion.weights([torch.randn(2, 8, 5, 7) for _ in range(3)])
    assert weights.shape == (2, 3, 5, 7)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 5, 7))
    assert weights.std() > 0.1  # they differ between pixels and sources


def test_without_weight_convolutions_it_is_the_plain_mean() -> None:
    torch.manual_seed(0)
    fusion = ASFF(levels(8, 8, 8), channels=8, coarsest=32).fuse[0]
    torch.nn.init.zeros_(fusion.weigh.weight)
    torch.nn.init.zeros_(fusion.weigh.bias)
    sources = [torch.randn(2, 8, 5, 7) for _ in range(3)]
    torch.testing.assert_close(fusion(sources), torch.stack(sources).mean(0))


def test_a_certain_weight_passes_its_source_alone() -> None:
    fusion = ASFF(levels(8, 8, 8), channels=8, coarsest=32).fuse[2]
    torch.nn.init.zeros_(fusion.weigh.weight)
    with torch.no_grad():
        fusion.weigh.bias.copy_(torch.tensor([0.0, 100.0, 0.0]))
    sources = [torch.randn(2, 8, 5, 7) for _ in range(3)]
    torch.testing.assert_close(fusion(sources), sources[1])


@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize(("finest", "coarsest"), [(4, 32), (8, 128), (32, 64)])
def test_out_specs_are_true(finest: int, coarsest: int, floor: bool) -> None:
    size_hw = (109, 179)
    neck = ASFF(SMALL, channels=16, finest=finest, coarsest=coarsest)
    x = maps(size_hw, floor=floor)
    out = neck(x)
    assert [s.stride for s in neck.out_specs] == [s for s in (4, 8, 16, 32, 64, 128) if finest <= s <= coarsest]
    for spec, m in zip(neck.out_specs, out, strict=True):
        assert m.shape[:2] == (2, spec.channels)
        if not floor:
            assert m.shape[2:] == tuple(-(-v // spec.stride) for v in size_hw)
    same = [m.shape[-2:] for s, m in zip(SMALL, x, strict=True) if finest <= s.stride <= coarsest]
    assert [m.shape[-2:] for m in out][: len(same)] == same


def test_every_level_sees_every_level() -> None:
    torch.manual_seed(0)
    neck = ASFF(SMALL, channels=8, widths=(4, 8, 4, 8), finest=4, coarsest=32)
    assert all(map(all, connected(neck, maps((64, 64)))))


def test_it_follows_a_pyramid_and_fuses_all_its_levels() -> None:
    fpn = FPN(SMALL, channels=8)
    neck = ASFF(fpn.out_specs, channels=(8, 8, 8, 16, 16))
    assert [s.stride for s in neck.out_specs] == [8, 16, 32, 64, 128]
    assert not len(neck.extra.convs)
    out = neck(fpn(maps((109, 179))))
    assert [tuple(m.shape[-2:]) for m in out] == [(14, 23), (7, 12), (4, 6), (2, 3), (1, 2)]


def test_it_learns_everywhere_and_is_exported() -> None:
    neck = ASFF(SMALL, channels=16, widths=(8, 8, 16))
    check_learns(neck, maps((64, 96)))
    check_exports(neck, maps((70, 90)))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"ASFF starts at stride 2, .* strides \[4, 8, 16, 32\]: set neck.finest"):
        ASFF(SMALL, finest=2)
    with pytest.raises(ValueError, match="3 levels of the backbone but 2 channels"):
        ASFF(SMALL, channels=(8, 16))
    with pytest.raises(ValueError, match="weight_channels"):
        ASFF(SMALL, weight_channels=0)
