"""The quick form of the stem computes the plain one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torso.backbones.csp import CSPDarknet
from torso.backbones.extraction import Extraction
from torso.backbones.shufflenet_v2 import ShuffleNetV2
from torso.backbones.spinenet import SpineNet
from torso.backbones.timm import Timm
from torso.layers.conv import ConvNormAct, StemConv2d, conv2d_on_blocks, fits_stem


@pytest.mark.parametrize("kernel", [2, 3, 5, 6, 7])
@pytest.mark.parametrize("bias", [True, False])
def test_convolution_on_blocks_is_the_convolution(kernel: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, kernel, stride=2, padding=(kernel - 1) // 2, bias=bias).double()
    x = torch.randn(2, 3, 12, 18, dtype=torch.float64)
    ours = conv2d_on_blocks(x, conv.weight, conv.bias, (kernel - 1) // 2)
    torch.testing.assert_close(ours, conv(x), rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(ours.square().sum(), conv.weight)
    (expected,) = torch.autograd.grad(conv(x).square().sum(), conv.weight)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


def test_only_such_a_convolution_is_replaced_and_its_name_stays() -> None:
    assert fits_stem(nn.Conv2d(3, 8, 7, 2, 3))
    assert fits_stem(nn.Conv2d(3, 8, 6, 2, 2))
    assert not fits_stem(nn.Conv2d(3, 8, 6, 2, 3))
    assert not fits_stem(nn.Conv2d(3, 8, 4, 4))
    assert not fits_stem(nn.Conv2d(3, 8, 3, 1, 1))
    body = Timm(name="resnet18").body
    assert isinstance(body.conv1, StemConv2d)
    assert "conv1.weight" in body.state_dict()


FIRST = {
    "conv6": lambda: CSPDarknet(width=0.25, stem="conv6").stem.conv,
    "conv3": lambda: CSPDarknet(width=0.25, stem="conv3").stem.conv,
    "extraction": lambda: Extraction(width=0.25).stages[0][0].conv,
    "shufflenet": lambda: ShuffleNetV2().stem.conv,
    "spinenet": lambda: SpineNet(filter_scale=0.25).stem.conv,
}


@pytest.mark.parametrize("name", FIRST)
def test_our_own_backbones_of_a_strided_stem_have_it(name: str) -> None:
    conv = FIRST[name]()
    assert isinstance(conv, StemConv2d)
    kernel = conv.kernel_size[0]
    plain = nn.Conv2d(3, conv.out_channels, kernel, 2, (kernel - 1) // 2, bias=conv.bias is not None)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(1, 3, 32, 48)
    assert torch.equal(conv(x), plain(x))
    torch.testing.assert_close(conv2d_on_blocks(x, conv.weight, conv.bias, (kernel - 1) // 2), plain(x))


def test_what_reads_no_images_is_a_plain_convolution() -> None:
    assert type(ConvNormAct(3, 8, stride=1).conv) is nn.Conv2d
    assert type(ConvNormAct(4, 8, stride=2).conv) is nn.Conv2d
    assert type(ConvNormAct(3, 8, kernel=(1, 3), stride=2).conv) is nn.Conv2d
    assert type(ConvNormAct(3, 9, stride=2, groups=3).conv) is nn.Conv2d
