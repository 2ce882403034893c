"""SPP and SPPF: the same pools, darknet's order, YOLOv4's published count, refusals."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from torso.backbones.timm import Timm
from torso.blocks.spp import SPP
from torso.blocks.sppf import SPPF
from torso.necks.pan import PAN
from torso.types import FeatureSpec


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("size", [(13, 13), (7, 20), (1, 1), (4, 3)])
def test_chained_pools_are_the_pools_of_5_9_and_13(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size) - 5  # all below zero: zero padding would show
    assert all(torch.equal(a, b) for a, b in zip(SPPF(8).pools(x), reversed(SPP(8, channels=4).pools(x)), strict=True))


def test_the_order_is_darknets() -> None:
    x = torch.randn(1, 2, 30, 30)
    got = SPP(2, channels=2).pools(x)
    want = [F.max_pool2d(F.pad(x, [k // 2] * 4, value=-torch.inf), k, 1) for k in (13, 9, 5)]
    assert all(torch.equal(a, b) for a, b in zip(got, [*want, x], strict=True))


def test_layers_are_those_of_the_cfg() -> None:
    """yolov4.cfg 105 to 113: 1x1 512, 3x3 1024, 1x1 512, pools, 1x1 512, 3x3 1024, 1x1 512; no biases."""
    with torch.device("meta"):
        spp = SPP(1024)
    convs = [m for m in spp.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in convs] == [
        (1024, 512, 1),
        (512, 1024, 3),
        (1024, 512, 1),
        (2048, 512, 1),
        (512, 1024, 3),
        (1024, 512, 1),
    ]
    assert spp.out_channels == 512
    assert not any(m.bias is not None for m in convs)


def test_yolov4_has_its_64_363_million_parameters() -> None:
    """CSPDarknet53, SPP, concatenating PAN and three heads (3x3 with BatchNorm, 1x1 with bias to 3 * 85)."""
    with torch.device("meta"):
        body = Timm(name="cspdarknet53", activation="mish")
        spp = SPP(1024)
        c3, c4, c5 = body.out_specs[-3:]
        specs = [c3, c4, FeatureSpec(spp.out_channels, c5.stride_yx)]
        pan = PAN(specs, form="concat", channels=(128, 256, 512), finest=8, coarsest=32)
    heads = sum(9 * w * 2 * w + 2 * 2 * w + 2 * w * 255 + 255 for w in (128, 256, 512))
    assert round((parameters(body) + parameters(spp) + parameters(pan) + heads) / 1e6, 3) == 64.363


def test_width_and_number_of_convolutions_are_options() -> None:
    bare = SPP(6, channels=None, convs=1)
    assert bare.out_channels == 6
    assert parameters(bare) == 6 * 6 + 12 + 24 * 6 + 12
    assert SPPF(6, channels=10, pools=2)(torch.randn(2, 6, 5, 5)).shape == (2, 10, 5, 5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="convs: expected an odd whole number of at least 1, got 2"):
        SPP(8, convs=2)
    with pytest.raises(ValueError, match="kernels: expected a list of an odd whole number"):
        SPP(8, kernels=(4,))
    with pytest.raises(ValueError, match="kernel: expected an odd whole number of at least 1, got 4"):
        SPPF(8, kernel=4)
