"""SFAM: scales, counts by hand, weights that are shared only where said, attention, refusals."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from neck_cases import SMALL, check_exports, check_learns, connected, conv_bn, count, levels, maps
from torch import Tensor, nn

from torso.geometry.priors._base import grid_priors
from torso.necks.sfam import SFAM

VGG = levels(512, 1024)
TINY = {"channels": 16, "tums": 2, "base": (8, 8), "squeezed": 4, "reduction": 1}


def test_m2dets_scales() -> None:
    """320 pixels end in 40, 20, 10, 5, 3 and 1 places (the authors' code)."""
    neck = SFAM(levels(8, 16), coarsest=256, last="valid", **TINY)
    out = neck(maps((320, 320), levels(8, 16)))
    assert [m.shape[-1] for m in out] == [40, 20, 10, 5, 3, 1]
    assert [s.stride for s in neck.out_specs] == [8, 16, 32, 64, 128, 256]


def seeing() -> SFAM:
    """A neck whose places answer the more, the more of a bright pixel they see: all weights of a layer are equal."""
    neck = SFAM(levels(1, 1), coarsest=256, last="valid", attention=False, **TINY).eval()
    for p in (p for n, p in neck.named_parameters() if n.endswith("conv.weight")):
        nn.init.constant_(p, 1 / p[0].numel())
    return neck


def told(neck: SFAM, size_hw: tuple[int, int]) -> tuple[list[Tensor], list[Tensor]]:
    """The coarsest level's map for every pixel that a cell centre of it is told to be at, and those (x, y) centres."""
    places = neck([torch.zeros(1, 1, -(-size_hw[0] // s), -(-size_hw[1] // s)) for s in (8, 16)])[-1].shape[-2:]
    stride = neck.out_specs[-1].stride_yx
    centers = grid_priors(torch.ones(1, 2), (int(places[0]), int(places[1])), stride, 0.5)[0]
    seen = []
    for x, y in centers.tolist():
        image = torch.zeros(1, 1, *(-(-side // 256) * 256 for side in size_hw))
        image[..., int(y), int(x)] = 1e6
        image = image[..., : size_hw[0], : size_hw[1]]
        seen.append(neck([F.avg_pool2d(image, 8), F.avg_pool2d(image, 16)])[-1].sum(1).flatten())
    return seen, list(centers)


@pytest.mark.parametrize(("size_hw", "places"), [((320, 320), 1), ((512, 320), 2), ((512, 512), 4)])
def test_a_bright_pixel_is_seen_best_where_the_cell_is_told_to_be(size_hw: tuple[int, int], places: int) -> None:
    seen, centers = told(seeing(), size_hw)
    assert len(centers) == places
    for i, answer in enumerate(seen):
        assert answer[i] > 0
        assert answer[i] == answer.max(), f"the pixel at {centers[i].tolist()} is seen by {answer.tolist()}"


@pytest.mark.parametrize("size_hw", [(640, 320), (320, 640), (256, 320), (800, 800)])
def test_places_that_would_lie_elsewhere_are_refused(size_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"give images of 257 to 512 px a side, or set last='stride'"):
        seeing()(maps(size_hw, levels(1, 1)))


def test_any_size_without_the_unpadded_last_scale() -> None:
    neck = SFAM(SMALL, coarsest=256, **TINY)
    for size_hw in ((320, 320), (109, 179)):
        for spec, m in zip(neck.out_specs, neck(maps(size_hw)), strict=True):
            assert m.shape == (2, 16, *(-(-v // spec.stride) for v in size_hw))


def by_hand(tums: int, width: int, scales: int, attentions: int, squeezes: int) -> int:
    joined = tums * width
    base = conv_bn(512, 256, 3) + conv_bn(1024, 512, 1) + squeezes * conv_bn(768, 128, 1)

    def tum(comes: int) -> int:
        inner = scales - 2
        down = conv_bn(comes, width, 3) + inner * conv_bn(width, width, 3)
        lateral = down
        return down + lateral + conv_bn(width, width, 1) * scales  # top and smoothing

    attention = 2 * joined * (joined // 16) + joined // 16 + joined
    return base + tum(128) + (tums - 1) * tum(128 + width) + attentions * attention + 2 * joined


def test_counts_by_hand_say_what_is_shared() -> None:
    with torch.device("meta"):
        own, shared = SFAM(VGG, coarsest=256), SFAM(VGG, coarsest=256, shared=True)
        without = SFAM(VGG, coarsest=256, attention=False, shared=True)
    assert count(own) == by_hand(8, 256, 6, attentions=6, squeezes=8)
    assert count(shared) == by_hand(8, 256, 6, attentions=1, squeezes=1)
    assert count(without) == by_hand(8, 256, 6, attentions=0, squeezes=1)


def test_no_weight_is_shared_unasked() -> None:
    neck = SFAM(SMALL, **TINY)
    everything = list(neck.named_parameters(remove_duplicate=False))
    assert len(everything) == len({id(p) for _, p in everything})
    assert len(neck.attention) == len(neck.out_specs)


def test_attention_belongs_to_its_scale() -> None:
    """Closing one scale's gate silences that scale and no other; the others stay as they were."""
    neck = SFAM(SMALL, **TINY).eval()
    x = maps((64, 96))
    with torch.no_grad():
        before = neck(x)
        neck.attention[2].excite.weight.zero_()
        neck.attention[2].excite.bias.fill_(-100.0)
        after = neck(x)
    assert float(after[2].abs().max()) == 0
    assert all(torch.equal(a, b) for i, (a, b) in enumerate(zip(after, before, strict=True)) if i != 2)


def test_gates_are_of_the_whole_map_and_between_zero_and_one() -> None:
    attention = SFAM(SMALL, **TINY).attention[0]
    x = torch.rand(2, 16, 5, 7) + 0.5
    gate = attention(x) / x
    torch.testing.assert_close(gate, gate[..., :1, :1].expand_as(gate))
    assert (gate > 0).all()
    assert (gate < 1).all()


def test_it_reads_two_levels_and_each_scale_sees_both() -> None:
    torch.manual_seed(0)
    rows = connected(SFAM(SMALL, **TINY), maps((64, 64)))
    assert [all(r) for r in rows] == [False, True, True, False]
    assert not any(rows[0] + rows[3])


def test_later_u_shapes_hear_earlier_ones() -> None:
    """The joined map holds the U-shapes one after the other: the second half depends on the first one's weights."""
    torch.manual_seed(0)
    neck = SFAM(SMALL, attention=False, **TINY).eval()
    x = maps((64, 64))
    with torch.no_grad():
        before = neck(x)[1]
        neck.tums[0].top.conv.weight.add_(1.0)
        after = neck(x)[1]
        neck.tums[1].top.conv.weight.add_(1.0)
        last = neck(x)[1]
    assert not torch.equal(after[:, 8:], before[:, 8:])
    assert torch.equal(last[:, :8], after[:, :8])


@pytest.mark.parametrize("shared", [False, True])
def test_it_learns_everywhere_and_is_exported(shared: bool) -> None:
    neck = SFAM(SMALL, shared=shared, **TINY)
    check_learns(neck, maps((64, 96)))
    check_exports(neck, maps((70, 90)))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"SFAM joins levels of strides 32 and 64, .* \[4, 8, 16, 32\]; set finest"):
        SFAM(SMALL, finest=32, coarsest=256)
    with pytest.raises(ValueError, match="SFAM starts at stride 2"):
        SFAM(SMALL, finest=2)
    with pytest.raises(ValueError, match="no multiple of 8"):
        SFAM(SMALL, channels=20)
    with pytest.raises(ValueError, match="three scales"):
        SFAM(SMALL, coarsest=16)
