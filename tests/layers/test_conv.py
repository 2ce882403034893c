"""Blocks of convolution: the forms that CUDA uses compute the same function, on any device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torso.layers.conv import ConvNormAct, conv2d_aligned, group_norm_channels_last, make_activation, make_norm


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (6, 3), (8, 1)])
def test_group_norm_in_channels_last_order_is_torchs(channels: int, groups: int) -> None:
    torch.manual_seed(0)
    reference = nn.GroupNorm(groups, channels)
    nn.init.normal_(reference.weight)
    nn.init.normal_(reference.bias)
    x = torch.randn(2, channels, 9, 7).to(memory_format=torch.channels_last).requires_grad_()
    y = x.detach().clone().requires_grad_()
    ours = group_norm_channels_last(x, groups, reference.weight, reference.bias, reference.eps)
    theirs = reference(y)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    weight = torch.randn_like(theirs)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("out", [1, 36, 40])
@pytest.mark.parametrize("bias", [True, False])
def test_aligned_convolution_is_the_convolution(out: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, out, 3, padding=1, bias=bias)
    x = torch.randn(2, 16, 9, 7)
    torch.testing.assert_close(conv2d_aligned(x, conv, multiple=8), conv(x), rtol=1e-5, atol=1e-5)
    conv2d_aligned(x, conv, multiple=8).sum().backward()
    assert conv.weight.grad is not None
    assert bool(conv.weight.grad.abs().sum() > 0)


def test_names_choose_layers() -> None:
    assert isinstance(make_norm("bn", 8), nn.BatchNorm2d)
    assert make_norm("gn", 40).num_groups == 8
    assert make_activation("leaky_relu").negative_slope == 0.1
    block = ConvNormAct(3, 8, stride=2, norm="bn", activation="silu")
    assert block.conv.bias is None
    assert block(torch.zeros(1, 3, 9, 7)).shape == (1, 8, 5, 4)


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 4), ((1, 3), 2), ((5, 1), 3), (1, 2)])
def test_same_padding_follows_kernel_and_dilation(kernel: int | tuple[int, int], dilation: int) -> None:
    block = ConvNormAct(2, 3, kernel=kernel, dilation=dilation)
    assert block(torch.zeros(1, 2, 9, 7)).shape == (1, 3, 9, 7)
    assert block.conv.dilation == (dilation, dilation)
