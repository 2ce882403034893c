"""PAN: published counts, sizes, who sees whom, arguments, refusals."""

from __future__ import annotations

import pytest
import torch
from neck_cases import SMALL, count, maps

from torso.necks.fpn import FPN
from torso.necks.pan import PAN
from torso.parts import part
from torso.types import FeatureSpec

R50 = [FeatureSpec(c, (s, s)) for c, s in ((256, 4), (512, 8), (1024, 16), (2048, 32))]
FORMS = ("add", "concat")


def test_published_parameter_counts() -> None:
    assert count(PAN(R50, finest=4, coarsest=64, extra="pool")) == 6_884_864
    assert count(PAN(R50, finest=8, coarsest=128, extra="conv_p5")) == 6_228_992


def test_concat_is_yolov4s() -> None:
    """Behind SPP (512 at stride 32), counted from the widths of yolov4.cfg: BN has two values a channel, no bias."""

    def conv(a: int, b: int, k: int) -> int:
        return a * b * k * k + 2 * b

    def five(w: int) -> int:
        return 3 * conv(2 * w, w, 1) + 2 * conv(w, 2 * w, 3)

    top_down = conv(512, 256, 1) * 2 + five(256) + conv(256, 128, 1) * 2 + five(128)
    bottom_up = conv(128, 256, 3) + five(256) + conv(256, 512, 3) + five(512)
    specs = [FeatureSpec(c, (s, s)) for c, s in ((256, 8), (512, 16), (512, 32))]
    neck = PAN(specs, form="concat", channels=(128, 256, 512), finest=8, coarsest=32)
    assert count(neck) == top_down + bottom_up
    assert [s.channels for s in neck.out_specs] == [128, 256, 512]
    assert {type(m).__name__ for m in neck.modules()} >= {"BatchNorm2d", "LeakyReLU"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("finest", "coarsest"), [(4, 32), (8, 128), (32, 32), (16, 64)])
@pytest.mark.parametrize("size_hw", [(128, 128), (109, 179)])
def test_out_specs_are_true(form: str, finest: int, coarsest: int, size_hw: tuple[int, int]) -> None:
    neck = PAN(SMALL, form=form, channels=16, finest=finest, coarsest=coarsest)
    out = neck(maps(size_hw))
    assert [s.stride for s in neck.out_specs] == [s for s in (4, 8, 16, 32, 64, 128) if finest <= s <= coarsest]
    for spec, x in zip(neck.out_specs, out, strict=True):
        assert x.shape == (2, spec.channels, *(-(-v // spec.stride) for v in size_hw))


@pytest.mark.parametrize("form", FORMS)
def test_backbones_that_round_down(form: str) -> None:
    x = maps((109, 179), floor=True)
    out = PAN(SMALL, form=form, channels=16, finest=4, coarsest=32)(x)
    assert [m.shape[-2:] for m in out] == [m.shape[-2:] for m in x]


@pytest.mark.parametrize("form", FORMS)
def test_every_level_sees_every_level(form: str) -> None:
    """The point of path aggregation; an FPN's coarsest level never sees the finest."""
    torch.manual_seed(0)
    neck = PAN(SMALL, form=form, channels=16, finest=4, coarsest=32).eval()
    x = maps((64, 64))
    before = neck(x)
    for i in range(4):
        after = neck([m + 1 if i == j else m for j, m in enumerate(x)])
        assert all((a - b).abs().max() > 1e-6 for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_gradients_and_untouched_inputs(form: str) -> None:
    neck, x = PAN(SMALL, form=form, channels=16, finest=4, coarsest=128), maps((64, 64))
    kept = [m.clone() for m in x]
    sum(m.square().sum() for m in neck(x)).backward()
    assert all(torch.equal(a, b) for a, b in zip(x, kept, strict=True))
    assert not [n for n, p in neck.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_it_takes_the_place_of_an_fpn() -> None:
    swapped = part(FPN, channels=64, finest=4, coarsest=64, extra="pool").swapped(part(PAN))
    assert swapped == part(PAN, channels=64, finest=4, coarsest=64, extra="pool")
    assert part(PAN).override("channels", "128,256,512").get("channels") == (128, 256, 512)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="PAN starts at stride 2"):
        PAN(SMALL, finest=2)
    with pytest.raises(ValueError, match=r"incoming levels have strides \[8, 32\].*choose a neck that takes any"):
        PAN([SMALL[1], SMALL[3]], channels=8)
    with pytest.raises(ValueError, match=r"3 levels of the backbone but 2 channels"):
        PAN(SMALL, form="concat", channels=(8, 16), finest=8)
    with pytest.raises(ValueError, match=r"one width.*form='concat'"):
        PAN(SMALL, channels=(8, 16, 32), finest=8)
