"""Convolution with its normalisation and activation, chosen by name."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Norm = Literal["none", "bn", "gn"]
Activation = Literal["none", "relu", "leaky_relu", "silu", "mish", "gelu", "hardswish"]


class ConvNormAct(nn.Module):
    """conv -> norm -> activation, "same" padding at odd kernels: [B, C, h, w] -> [B, C', ceil(h/s), ceil(w/s)].

    bias: None means "only without a norm" (a norm has its own).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        norm: Norm = "none",
        activation: Activation = "none",
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        bias = norm == "none" if bias is None else bias
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = make_norm(norm, out_channels)
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))
        return x


def make_norm(name: Norm, channels: int) -> nn.Module:
    """A norm layer by name; "gn" has 32 groups, fewer where that would leave less than four channels a group.

    A group of one channel has nothing to normalise over on a 1x1 map, which the coarsest level of a small picture is.
    """
    if name == "bn":
        return nn.BatchNorm2d(channels)
    if name == "gn":
        groups = next((g for g in (32, 16, 8, 4, 2) if channels % g == 0 and channels >= 4 * g), 1)
        return nn.GroupNorm(groups, channels)
    return nn.Identity()


def make_activation(name: Activation) -> nn.Module:
    """An activation layer by name; leaky_relu has darknet's slope 0.1, not torch's 0.01."""
    if name == "leaky_relu":
        return nn.LeakyReLU(0.1, inplace=True)
    layers: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU,
        "silu": nn.SiLU,
        "mish": nn.Mish,
        "hardswish": nn.Hardswish,
    }
    if name in layers:
        return layers[name](inplace=True)
    return nn.GELU() if name == "gelu" else nn.Identity()
