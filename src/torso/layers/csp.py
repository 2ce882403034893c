"""Cross-stage-partial layers of the YOLO family (arXiv 1911.11929, 2107.08430, 2207.02696)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torso.layers.conv import Activation, ConvNormAct, Norm


class Bottleneck(nn.Module):
    """Two convolutions at one width and, where asked for, the input added: [B, C, h, w] kept."""

    def __init__(
        self, channels: int, *, kernels: tuple[int, int], shortcut: bool, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        first, second = kernels
        self.conv1 = ConvNormAct(channels, channels, kernel=first, norm=norm, activation=activation)
        self.conv2 = ConvNormAct(channels, channels, kernel=second, norm=norm, activation=activation)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class C3(nn.Module):
    """Half the width through bottlenecks (1x1, 3x3), half past them, joined by a 1x1: [B, C, h, w] -> [B, C', h, w]."""

    def __init__(
        self, in_channels: int, out_channels: int, *, depth: int, shortcut: bool, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.main = ConvNormAct(in_channels, half, kernel=1, norm=norm, activation=activation)
        self.short = ConvNormAct(in_channels, half, kernel=1, norm=norm, activation=activation)
        self.blocks = nn.Sequential(
            *(
                Bottleneck(half, kernels=(1, 3), shortcut=shortcut, norm=norm, activation=activation)
                for _ in range(depth)
            )
        )
        self.final = ConvNormAct(2 * half, out_channels, kernel=1, norm=norm, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.final(torch.cat([self.blocks(self.main(x)), self.short(x)], dim=1))
        return y


class C2f(nn.Module):
    """As ELAN, every bottleneck's output (3x3, 3x3) goes into the joint: [B, C, h, w] -> [B, C', h, w].

    One 1x1 makes both halves; the second passes through `depth` bottlenecks, and all of 2 + depth maps are joined.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, depth: int, shortcut: bool, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.split = ConvNormAct(in_channels, 2 * half, kernel=1, norm=norm, activation=activation)
        self.blocks = nn.ModuleList(
            Bottleneck(half, kernels=(3, 3), shortcut=shortcut, norm=norm, activation=activation) for _ in range(depth)
        )
        self.final = ConvNormAct((2 + depth) * half, out_channels, kernel=1, norm=norm, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        maps = list(self.split(x).chunk(2, dim=1))
        for block in self.blocks:
            maps.append(block(maps[-1]))
        y: Tensor = self.final(torch.cat(maps, dim=1))
        return y
