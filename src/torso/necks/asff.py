"""Adaptively spatial feature fusion: each level a per-pixel weighted sum of all (Liu et al. 2019, arXiv 1911.09516)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso.bounds import Count
from torso.layers.conv import Activation, ConvNormAct, Norm
from torso.layers.pyramid import upsample_nearest
from torso.necks._base import Neck, cut, initialise_linear, level_widths, levels_between
from torso.necks._extra import ExtraKind, ExtraLevels
from torso.types import FeatureSpec


class ASFF(Neck):
    """out_l = conv3(sum_i w_i * x_i->l), the weights a softmax over the sources at every pixel of level l.

    It stands behind a pyramid ("fpn+asff") or straight on a backbone.

    Args:
        channels: width of the output levels, one for all or one for each incoming level, fine to coarse.
        widths: in which the levels are fused, likewise; None is the width that comes. YOLOv3-ASFF fuses in 256, 256,
            512 and ends in 256, 512, 1024.
        weight_channels: width of what each source says about its weight (the authors' 16, or 8 beside RFB).
        finest, coarsest: strides of the first and the last output level. Incoming levels in between are fused; those
            that are missing at the coarse end are made by `extra` from the fused ones, as in FPN.
        extra: what makes them; "conv_c5" takes the last incoming map.
        norm, activation: of all convolutions but the one that ends in the weights.

    A finer source comes by a 3x3 of stride 2, behind max-pools from two levels on; a coarser one by a 1x1 where its
    width differs, and by repetition to the target's own size, so that odd sizes work.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        channels: Count | tuple[Count, ...] = 256,
        widths: Count | tuple[Count, ...] | None = None,
        weight_channels: Count = 16,
        finest: int = 8,
        coarsest: int = 128,
        extra: ExtraKind = "conv_p5",
        norm: Norm = "bn",
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        self._positions = levels_between(in_specs, finest, coarsest, type(self).__name__)
        incoming = [in_specs[i] for i in self._positions]
        comes = [s.channels for s in incoming]
        inner = level_widths(tuple(comes) if widths is None else widths, len(comes), type(self).__name__)
        out = level_widths(channels, len(comes), type(self).__name__)

        def conv(a: int, b: int, kernel: int) -> ConvNormAct:
            return ConvNormAct(a, b, kernel=kernel, norm=norm, activation=activation)

        self.compress = nn.ModuleList(
            nn.Identity() if a == b else conv(a, b, 1) for a, b in zip(comes, inner, strict=True)
        )
        octaves = [s.stride.bit_length() for s in incoming]
        self.resize = nn.ModuleList(
            nn.ModuleList(
                _Resize(w, target_w, target - o, norm, activation) for w, o in zip(inner, octaves, strict=True)
            )
            for target_w, target in zip(inner, octaves, strict=True)
        )
        self.fuse = nn.ModuleList(_Fusion(w, len(inner), weight_channels, norm, activation) for w in inner)
        self.expand = nn.ModuleList(conv(a, b, 3) for a, b in zip(inner, out, strict=True))
        last = incoming[-1]
        self.extra = ExtraLevels(
            last_c=last.channels, channels=out[-1], stride=last.stride, coarsest=coarsest, kind=extra
        )
        initialise_linear(self.extra)
        strides = [s.stride for s in incoming] + self.extra.strides
        out += [out[-1]] * len(self.extra.strides)
        self.out_specs = tuple(FeatureSpec(c, (s, s)) for c, s in zip(out, strides, strict=True))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        c = [features[i] for i in self._positions]
        x = [compress(m) for compress, m in zip(self.compress, c, strict=True)]
        out = []
        for level, target in enumerate(x):
            resizes = self.resize[level]
            assert isinstance(resizes, nn.ModuleList)
            here = [resize(m, target) for resize, m in zip(resizes, x, strict=True)]
            out.append(self.expand[level](self.fuse[level](here)))
        return [*out, *self.extra(c[-1], out[-1])]


class _Resize(nn.Module):
    """One level in another's width and size: [B, C, h, w] and a map of the target's size -> [B, C', h', w'].

    octaves: how much finer the source is; 0 is the level itself, negative a coarser one.
    """

    def __init__(self, source_c: int, target_c: int, octaves: int, norm: Norm, activation: Activation) -> None:
        super().__init__()
        self.octaves = octaves
        if octaves > 0:
            self.conv: nn.Module = ConvNormAct(source_c, target_c, stride=2, norm=norm, activation=activation)
        elif source_c == target_c:
            self.conv = nn.Identity()
        else:
            self.conv = ConvNormAct(source_c, target_c, kernel=1, norm=norm, activation=activation)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        for _ in range(self.octaves - 1):
            x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        x = self.conv(x)
        if self.octaves < 0:
            return upsample_nearest(x, (like.shape[-2], like.shape[-1]))
        return cut(x, like)


class _Fusion(nn.Module):
    """Maps of one size and width -> their sum, weighted at every pixel: n x [B, C, h, w] -> [B, C, h, w]."""

    def __init__(self, channels: int, sources: int, weight_channels: int, norm: Norm, activation: Activation) -> None:
        super().__init__()
        self.say = nn.ModuleList(
            ConvNormAct(channels, weight_channels, kernel=1, norm=norm, activation=activation) for _ in range(sources)
        )
        self.weigh = nn.Conv2d(weight_channels * sources, sources, 1)

    def weights(self, maps: Sequence[Tensor]) -> Tensor:
        """[B, n, h, w], positive, summing to one at every pixel."""
        said = torch.cat([say(m) for say, m in zip(self.say, maps, strict=True)], dim=1)
        return F.softmax(self.weigh(said), dim=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        weights = self.weights(maps)
        fused = maps[0] * weights[:, :1]
        for i, m in enumerate(maps[1:], start=1):
            fused = torch.addcmul(fused, m, weights[:, i : i + 1])
        return fused
