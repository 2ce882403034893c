"""CSPDarknet of the YOLO family from YOLOv5 and YOLOX on (arXiv 1911.11929, 2107.08430)."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from torso.backbones._stages import Staged
from torso.blocks._base import Block
from torso.blocks.sppf import SPPF
from torso.bounds import Count, Positive
from torso.layers.conv import Activation, ConvNormAct, StemConv2d
from torso.layers.csp import C3, C2f
from torso.parts import Part
from torso.types import FeatureSpec

_WIDTHS = (64, 128, 256, 512, 1024)  # of the stem and of the stages of strides 4, 8, 16, 32


class CSPDarknet(Staged):
    """A stem, four stages of a stride-2 convolution and a partial layer each, pooled windows at the end; strides 4-32.

    Args:
        width: factor of all channels, rounded to multiples of eight; no stage is wider than `widest` before that.
        depth: factor of `repeats`, the bottlenecks of the stages (at least one).
        stem: "focus" 3x3 on blocks of 2x2 pixels (YOLOX), "conv6" the same reach as one 6x6 of stride 2, "conv3".
        layer: "c3", or "c2f", which joins every bottleneck's output, as ELAN does (arXiv 2207.02696).
        pooling: "sppf" after the last stage; "spp" in YOLOX's way, before its partial layer, whose bottlenecks then
            have no shortcut; "none". Either is computed by chained 5x5 pools, whose windows are the 5, 9, 13 of SPP.
        activation: of every convolution.
        block: stands behind the stages of some maps, one of its own for each, before the next stage sees the map.
        block_strides: of those maps; none given means the block's own place, from stride 8 on.

    BatchNorm has eps 1e-3 and momentum 0.03. Images of any size but "focus", which wants even sides.
    """

    def __init__(
        self,
        *,
        width: Positive = 1.0,
        depth: Positive = 1.0,
        repeats: tuple[Count, Count, Count, Count] = (3, 6, 9, 3),
        widest: Annotated[int, Interval(ge=8)] = 1024,
        stem: Literal["focus", "conv6", "conv3"] = "conv6",
        layer: Literal["c3", "c2f"] = "c3",
        pooling: Literal["sppf", "spp", "none"] = "sppf",
        activation: Activation = "silu",
        block: Part[Block] | None = None,
        block_strides: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        channels = [max(8, round(min(c, widest) * width / 8) * 8) for c in _WIDTHS]
        self.stem = _stem(stem, channels[0], activation)
        partial = C3 if layer == "c3" else C2f
        self.stages = nn.ModuleList()
        for i, (a, b) in enumerate(itertools.pairwise(channels)):
            early, late = (pooling == name and i == len(repeats) - 1 for name in ("spp", "sppf"))
            n = max(round(repeats[i] * depth), 1)
            layers: list[nn.Module] = [ConvNormAct(a, b, stride=2, norm="bn", activation=activation)]
            layers.append(partial(b, b, depth=n, shortcut=not early, norm="bn", activation=activation))
            if early or late:
                layers.insert(1 if early else 2, SPPF(b, norm="bn", activation=activation))
            self.stages.append(nn.Sequential(*layers))
        self.out_specs = tuple(FeatureSpec(c, (4 << i, 4 << i)) for i, c in enumerate(channels[1:]))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                m.eps, m.momentum = 1e-3, 0.03
        self.insert(block, block_strides, self.stages)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.stem(pixels)
        out = []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out


class _Focus(nn.Module):
    """[B, 3, H, W] -> [B, 12, H/2, W/2]: the pixels of 2x2 blocks as channels, then a 3x3 convolution."""

    def __init__(self, channels: int, activation: Activation) -> None:
        super().__init__()
        self.conv = ConvNormAct(12, channels, norm="bn", activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] % 2 or x.shape[-1] % 2:
            raise ValueError(f"the focus stem wants even sides; {tuple(x.shape[-2:])} came: pad, or choose stem=conv6")
        left, right = x[..., ::2], x[..., 1::2]
        blocks = [left[..., ::2, :], left[..., 1::2, :], right[..., ::2, :], right[..., 1::2, :]]
        y: Tensor = self.conv(torch.cat(blocks, dim=1))
        return y


def _stem(kind: str, channels: int, activation: Activation) -> nn.Module:
    if kind == "focus":
        return _Focus(channels, activation)
    stem = ConvNormAct(3, channels, stride=2, norm="bn", activation=activation)
    if kind == "conv6":  # an even kernel: three pixels of padding less one give Focus' reach
        stem.conv = StemConv2d(3, channels, 6, 2, 2, bias=False)
    return stem
