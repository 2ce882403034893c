"""The quick form of the stem computes the plain one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torso.backbones.timm import Timm
from torso.layers.stem import StemConv2d, conv2d_on_blocks, fits


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("bias", [True, False])
def test_convolution_on_blocks_is_the_convolution(kernel: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, kernel, stride=2, padding=kernel // 2, bias=bias).double()
    x = torch.randn(2, 3, 12, 18, dtype=torch.float64)
    ours = conv2d_on_blocks(x, conv.weight, conv.bias, kernel // 2)
    torch.testing.assert_close(ours, conv(x), rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(ours.square().sum(), conv.weight)
    (expected,) = torch.autograd.grad(conv(x).square().sum(), conv.weight)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


def test_only_such_a_convolution_is_replaced_and_its_name_stays() -> None:
    assert fits(nn.Conv2d(3, 8, 7, 2, 3))
    assert not fits(nn.Conv2d(3, 8, 4, 4))
    assert not fits(nn.Conv2d(3, 8, 3, 1, 1))
    body = Timm(name="resnet18").body
    assert isinstance(body.conv1, StemConv2d)
    assert "conv1.weight" in body.state_dict()
