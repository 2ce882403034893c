"""What the receptive field blocks are made of."""

from __future__ import annotations

from torso.layers.conv import Activation, ConvNormAct


def unit(a: int, b: int, kernel: int | tuple[int, int], *, activation: Activation = "relu") -> ConvNormAct:
    """A unit of the receptive field blocks."""
    return ConvNormAct(a, b, kernel=kernel, norm="bn", activation=activation)


def dilated(channels: int, dilation: int) -> ConvNormAct:
    """The end of a branch: dilated, without an activation."""
    return ConvNormAct(channels, channels, dilation=dilation, norm="bn")
