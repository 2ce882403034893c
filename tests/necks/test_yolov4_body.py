"""CSPDarknet-53, SPP and PAN chained: YOLOv4's body, held to the counts of yolov4.cfg."""

from __future__ import annotations

import pytest
import torch
from neck_cases import conv_bn, count
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from torso.blocks.spp import SPP
from torso.necks.at_levels import AtLevels
from torso.necks.pan import PAN
from torso.parts import named, part

WIDTHS = (128, 256, 512)
OUTPUTS = 255  # 3 anchors x (80 classes + box + objectness)


@pytest.fixture(scope="module")
def body() -> list[nn.Module]:
    with torch.device("meta"):
        backbone = named("cspdarknet53", "backbones").build()
        spp = AtLevels(backbone.out_specs, block=part(SPP))
        return [m.eval() for m in (backbone, spp, PAN(spp.out_specs, form="concat", channels=WIDTHS, coarsest=32))]


def macs(body: list[nn.Module], side: int) -> tuple[list[float], float]:
    """Multiply-adds of backbone, SPP and PAN, and of a head of a 3x3 and a 1x1 a level, in 10^9."""
    x = torch.empty(1, 3, side, side, device="meta")
    counts = []
    for module in body:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            x = module(x)
        counts.append(counter.get_total_flops() / 2e9)
    head = sum(m.shape[-1] ** 2 * (9 * w * 2 * w + 2 * w * OUTPUTS) for m, w in zip(x, WIDTHS, strict=True)) / 1e9
    return counts, head


def test_parameters(body: list[nn.Module]) -> None:
    """64.363 M in all, of which the body, from image to the three maps, has 57.709."""
    counts = [count(module) for module in body]
    head = sum(conv_bn(w, 2 * w, 3) + (2 * w + 1) * OUTPUTS for w in WIDTHS)
    assert [round(c / 1e6, 3) for c in counts] == [26.617, 12.067, 19.025]
    assert round((sum(counts) + head) / 1e6, 3) == 64.363


SIZES = [(416, 27.35, 30.05), (512, 41.43, 45.52), (608, 58.42, 64.19)]


@pytest.mark.parametrize(("side", "of_body", "published"), SIZES)
def test_multiply_adds(body: list[nn.Module], side: int, of_body: float, published: float) -> None:
    """Of all convolutions, the head's too in the published figure."""
    parts, head = macs(body, side)
    assert round(sum(parts), 2) == of_body
    assert round(sum(parts) + head, 2) == published


def test_every_convolution_is_yolov4s(body: list[nn.Module]) -> None:
    """No bias, a BatchNorm and LeakyReLU of slope 0.1 behind each convolution of SPP and PAN."""
    for module in body[1:]:
        kinds = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.LeakyReLU)]
        assert len(kinds) % 3 == 0
        for conv, norm, activation in zip(kinds[::3], kinds[1::3], kinds[2::3], strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is None
            assert isinstance(norm, nn.BatchNorm2d)
            assert activation.negative_slope == 0.1
