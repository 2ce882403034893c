"""M2Det's neck: thinned U-shapes in a row, their scales joined by SFAM's channel attention (Zhao 2018, 1811.04533)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from torso.blocks.se import SE
from torso.bounds import Count
from torso.layers.batch_norm import BatchNorm2d
from torso.layers.conv import Activation, ConvNormAct, Norm
from torso.layers.pyramid import upsample_nearest
from torso.necks._base import Neck, levels_between
from torso.types import FeatureSpec


class SFAM(Neck):
    """FFMv1 joins two levels of the backbone; U-shapes in a row, each fed by the one before (FFMv2), give all scales.

    Args:
        channels: width of the output levels: `tums` times the width of one U-shape (8 x 256).
        finest, coarsest: strides of the first and the last output level, from the backbone's levels of stride
            `finest` and twice that. M2Det has six scales, 8..256; levels beyond the head's coarsest go unused.
        tums: U-shapes in a row.
        base: widths to which FFMv1 brings its two levels before joining them.
        squeezed: width of what FFMv2 takes from that base for every U-shape.
        last: how the coarsest scale is made: "stride" like the others, or "valid", the authors' unpadded 3x3 of stride
            1. Its places stand half of `coarsest` apart, so they lie in the cells of that stride only where there are
            one or two a side: images above `coarsest` and up to twice that (the authors' 320 and 512 with 256).
            A forward of any other size is refused.
        attention: SFAM's squeeze and excitation of the joined scales; the authors' released models go without.
        reduction: of its inner width.
        shared: one FFMv2 for all U-shapes and one attention for all scales, as the authors' code has it (by a list
            multiplied), in place of one each as in the paper.
        norm, activation: of every convolution. BatchNorm has the authors' momentum 0.01.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        channels: Count = 2048,
        finest: int = 8,
        coarsest: int = 128,
        tums: Count = 8,
        base: tuple[Count, Count] = (256, 512),
        squeezed: Count = 128,
        last: Literal["stride", "valid"] = "stride",
        attention: bool = True,
        reduction: Count = 16,
        shared: bool = False,
        norm: Norm = "bn",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if channels % tums:
            raise ValueError(
                f"SFAM.channels is the joined width of its {tums} U-shapes; {channels} is no multiple of {tums}: "
                "change channels or tums"
            )
        strides = [finest]
        while strides[-1] * 2 <= coarsest:
            strides.append(strides[-1] * 2)
        self._positions = _two_levels(in_specs, finest)
        self._valid_from = strides[-1] if last == "valid" else None
        if len(strides) < 3:
            raise ValueError(
                f"SFAM has at least three scales; finest={finest} and coarsest={coarsest} leave {strides}: "
                f"set coarsest={4 * finest} or more"
            )

        def conv(a: int, b: int, kernel: int) -> ConvNormAct:
            return ConvNormAct(a, b, kernel=kernel, norm=norm, activation=activation)

        fine, coarse = (in_specs[i] for i in self._positions)
        self.fine, self.coarse = conv(fine.channels, base[0], 3), conv(coarse.channels, base[1], 1)
        width, copies = channels // tums, 1 if shared else tums
        self.squeeze = nn.ModuleList(conv(sum(base), squeezed, 1) for _ in range(copies))
        self.tums = nn.ModuleList(
            _ThinnedU(
                squeezed + (width if i else 0), width, scales=len(strides), last=last, norm=norm, activation=activation
            )
            for i in range(tums)
        )
        heads = 0 if not attention else 1 if shared else len(strides)
        self.attention = nn.ModuleList(SE(channels, reduction=reduction) for _ in range(heads))
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = 0.01
        self.largest_norm = BatchNorm2d(channels)  # the authors normalise the finest scale alone
        self.out_specs = tuple(FeatureSpec(channels, (s, s)) for s in strides)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        fine, coarse = (features[i] for i in self._positions)
        if self._valid_from is not None:
            _check_last_places(fine.shape[-2:], len(self.out_specs), self._valid_from)
        f = self.fine(fine)
        base = torch.cat([f, upsample_nearest(self.coarse(coarse), f.shape[-2:])], dim=1)
        scales: list[list[Tensor]] = []
        for i, tum in enumerate(self.tums):
            x = self.squeeze[i % len(self.squeeze)](base)
            scales.append(tum(torch.cat([x, scales[-1][0]], dim=1) if scales else x))
        joined = [torch.cat(same, dim=1) for same in zip(*scales, strict=True)]
        if len(self.attention):
            joined = [self.attention[i % len(self.attention)](m) for i, m in enumerate(joined)]
        return [self.largest_norm(joined[0]), *joined[1:]]


def _two_levels(in_specs: Sequence[FeatureSpec], finest: int) -> list[int]:
    """Positions of the levels of stride `finest` and twice that; ValueError where either is missing."""
    positions = levels_between(in_specs, finest, 2 * finest, "SFAM")
    if len(positions) != 2 or in_specs[positions[1]].stride != 2 * finest:
        raise ValueError(
            f"SFAM joins levels of strides {finest} and {2 * finest}, but the incoming levels have strides "
            f"{[s.stride for s in in_specs]}; set finest so that it and its double are among them"
        )
    return positions


def _check_last_places(finest_hw: Sequence[int], scales: int, coarsest: int) -> None:
    """ValueError where the last level's places, coarsest / 2 apart, would not lie in their cells of stride coarsest."""
    h, w = (-(-side // 2 ** (scales - 2)) for side in finest_hw)
    if not (3 <= h <= 4 and 3 <= w <= 4):
        raise ValueError(
            f"SFAM's last='valid' makes the level of stride {coarsest} by an unpadded 3x3 convolution of stride 1 from "
            f"a map of {(h, w)}; its places lie in that stride's cells only where the map has 3 or 4 a side: give "
            f"images of {coarsest + 1} to {2 * coarsest} px a side, or set last='stride', or change coarsest"
        )


class _ThinnedU(nn.Module):
    """[B, C, h, w] -> `scales` maps of `width` channels, fine to coarse, the first of the input's size.

    last "valid": the coarsest by an unpadded convolution of stride 1, which wants a map of 3x3 at least.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        scales: int,
        last: Literal["stride", "valid"],
        norm: Norm,
        activation: Activation,
    ) -> None:
        super().__init__()

        def conv(a: int, kernel: int, stride: int = 1) -> ConvNormAct:
            return ConvNormAct(a, width, kernel=kernel, stride=stride, norm=norm, activation=activation)

        comes = [in_channels] + [width] * (scales - 1)
        self.down = nn.ModuleList(conv(c, 3, 2) for c in comes[:-1])
        if last == "valid":
            conv_of_last = self.down[-1].conv
            assert isinstance(conv_of_last, nn.Conv2d)
            conv_of_last.stride, conv_of_last.padding = (1, 1), (0, 0)
        self.top = conv(width, 1)
        self.lateral = nn.ModuleList(conv(c, 3) for c in comes[:-1])
        self.smooth = nn.ModuleList(conv(width, 1) for _ in comes[:-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        e = [x]
        for down in self.down:
            e.append(down(e[-1]))
        d = self.top(e[-1])
        out = [d]
        for i in range(len(self.lateral) - 1, -1, -1):
            lateral = self.lateral[i](e[i])
            d = lateral + upsample_nearest(d, lateral.shape[-2:])
            out.append(self.smooth[i](d))
        return out[::-1]
