"""What the receptive field blocks are made of."""

from __future__ import annotations

from torso.layers.conv import Activation, ConvNormAct


def unit(
    a: int, b: int, kernel: int | tuple[int, int], *, dilation: int = 1, activation: Activation = "relu"
) -> ConvNormAct:
    """A unit of the receptive field blocks; its BatchNorm has the authors' momentum of 0.01."""
    made = ConvNormAct(a, b, kernel=kernel, dilation=dilation, norm="bn", activation=activation)
    made.norm.momentum = 0.01  # type: ignore[assignment]  # a BatchNorm, which torch types as any module
    return made


def dilated(channels: int, dilation: int) -> ConvNormAct:
    """The end of a branch: dilated, without an activation."""
    return unit(channels, channels, 3, dilation=dilation, activation="none")
