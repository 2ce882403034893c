"""SSD's VGG and its extra levels beside torchvision's extractor, at the paper's sizes and others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from torso.backbones.ssd_vgg import SSDVGG
from torso.backbones.timm import Timm
from torso.compose import built_on_meta
from torso.necks.ssd_extra import SSDExtra
from torso.parts import part
from torso.types import FeatureSpec

SSD300: dict[str, Any] = {"strides": (2, 2, 1, 1), "paddings": (1, 1, 0, 0), "steps": (32, 64, 100, 300)}
SSD512: dict[str, Any] = {
    "widths": (512, 256, 256, 256, 256),
    "strides": (2, 2, 2, 2, 1),
    "paddings": (1, 1, 1, 1, 1),
    "last_kernel": 4,
    "steps": (32, 64, 128, 256, 512),
}


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for m in modules for p in m.parameters())


def test_parameters_are_the_published_ones() -> None:
    with torch.device("meta"):
        body, plain = SSDVGG(), SSDVGG(l2_scale=None)
        extra = SSDExtra(body.out_specs, **SSD300)
        extra512 = SSDExtra(body.out_specs, **SSD512)
    assert count(plain) == 20_483_904
    assert count(body, extra) == 22_943_936
    assert count(extra) == 2_460_032 - 512  # those of SSD's neck elsewhere hold conv4_3's factors
    assert count(extra512) == 3_017_472 - 512


def test_features_are_torchvisions() -> None:
    torch.manual_seed(0)
    peer = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None).backbone.eval()
    body = SSDVGG().eval()
    extra = SSDExtra(body.out_specs, **SSD300).eval()
    nn.init.uniform_(peer.scale_weight, 10, 30)
    theirs = [m for m in peer.modules() if isinstance(m, nn.Conv2d)]
    ours = [m for m in (*body.modules(), *extra.modules()) if isinstance(m, nn.Conv2d)]
    for a, b in zip(ours, theirs, strict=True):
        a.load_state_dict(b.state_dict())
    body.l2_norm.weight.data.copy_(peer.scale_weight.data)
    x = torch.randn(1, 3, 300, 300)
    with torch.no_grad():
        got, wanted = extra(body(x)), list(peer(x).values())
    assert [tuple(m.shape[1:]) for m in got] == [
        (c, s, s) for c, s in zip((512, 1024, 512, 256, 256, 256), (38, 19, 10, 5, 3, 1), strict=True)
    ]
    for mine, their in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-5, atol=1e-5)
    assert [s.stride for s in extra.out_specs] == [8, 16, 32, 64, 100, 300]


@pytest.mark.parametrize(("size", "places"), [(512, (64, 32, 16, 8, 4, 2, 1)), (300, (38, 19, 10, 5, 3, 2))])
def test_maps_of_512_and_of_halving_levels(size: int, places: tuple[int, ...]) -> None:
    with torch.device("meta"), torch.no_grad():
        body = SSDVGG()
        extra = SSDExtra(body.out_specs, **(SSD512 if size == 512 else {}))
        maps = extra(body(torch.zeros(1, 3, size, size)))
    assert tuple(m.shape[-1] for m in maps) == places
    assert [s.stride for s in extra.out_specs] == [8 * 2**i for i in range(len(places))]


def test_odd_sizes_round_up() -> None:
    with torch.device("meta"), torch.no_grad():
        maps = SSDVGG()(torch.zeros(1, 3, 333, 250))
    assert [tuple(m.shape[-2:]) for m in maps] == [(42, 32), (21, 16)]


def test_conv4_3_has_length_20_at_every_place() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        conv4_3 = SSDVGG().eval()(torch.randn(1, 3, 64, 64))[0]
    torch.testing.assert_close(conv4_3.norm(dim=1), torch.full((1, 8, 8), 20.0))


def test_it_starts_from_imagenet(tmp_path: Path) -> None:
    body = SSDVGG()
    weights = {k: torch.randn(p.shape) for k, p in built_on_meta(part(Timm, name="vgg16")).body.named_parameters()}
    path = tmp_path / "vgg.safetensors"
    save_file({k.replace("features_", "features."): v for k, v in weights.items()}, path)
    before = body.fc7.weight.clone()
    body.load_pretrained(str(path))
    assert torch.equal(body.blocks[4][4].weight, weights["features_28.weight"])
    assert torch.equal(body.fc7.weight, before)
    assert {id(p) for p in body.published_parameters()} == {id(p) for p in body.blocks.parameters()}
    with pytest.raises(ValueError, match="no weight file at"):
        body.load_pretrained(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="set pixels='imagenet'"):
        SSDVGG(pixels="caffe").load_pretrained("hub")


def test_impossible_levels_are_refused_with_the_remedy() -> None:
    specs = [FeatureSpec(8, (8, 8)), FeatureSpec(8, (16, 16))]
    with pytest.raises(ValueError, match=r"must rise above 16.*needs its step said"):
        SSDExtra(specs, widths=(8,), strides=(1,))
    with pytest.raises(ValueError, match="one stride, padding and step"):
        SSDExtra(specs, widths=(8, 8), strides=(2,))
    with pytest.raises(ValueError, match="widths: expected a list of an even whole number"):
        SSDExtra(specs, widths=(7,))
    neck = SSDExtra(specs, widths=(8, 8), paddings=(0, 0))
    with pytest.raises(ValueError, match=r"map of \(1, 1\), too small"):
        neck([torch.zeros(1, 8, 8, 8), torch.zeros(1, 8, 4, 4)])
