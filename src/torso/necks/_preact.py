"""What stands behind a node of BiFPN, NAS-FPN and FC-FPN: activation, 3x3 convolution, norm, in this order."""

from __future__ import annotations

import math

from torch import Tensor, nn

from torso.layers.conv import Activation, ConvNormAct, Norm, make_activation, make_norm
from torso.layers.separable import SeparableConv2d


class PreActConv(nn.Module):
    """[B, C, h, w] -> the same shape. separable: depthwise 3x3, then pointwise 1x1."""

    def __init__(self, channels: int, *, separable: bool, norm: Norm, activation: Activation, bias: bool) -> None:
        super().__init__()
        self.act = make_activation(activation)
        if hasattr(self.act, "inplace"):
            self.act.inplace = False  # type: ignore[assignment]  # what comes may be a map that others read
        bias = bias or norm == "none"
        self.conv: nn.Module = (
            SeparableConv2d(channels, channels, bias=bias)
            if separable
            else nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        )
        self.norm = make_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(self.act(x)))
        return y


def lateral(in_channels: int, channels: int, *, norm: Norm, bias: bool = False) -> nn.Module:
    """1x1 convolution and norm, no activation, where the width differs; else nothing."""
    if in_channels == channels:
        return nn.Identity()
    return ConvNormAct(in_channels, channels, kernel=1, norm=norm, bias=bias or norm == "none")


def initialise_glorot(neck: nn.Module) -> None:
    """Glorot-uniform weights, the default of the TensorFlow originals; biases 0."""
    for conv in neck.modules():
        if isinstance(conv, nn.Conv2d):
            places = conv.kernel_size[0] * conv.kernel_size[1]
            fans = places * (conv.in_channels + conv.out_channels) / conv.groups
            bound = math.sqrt(6 / fans)
            nn.init.uniform_(conv.weight, -bound, bound)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
