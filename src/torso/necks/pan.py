"""Path aggregation: a bottom-up path behind the FPN's top-down one (PANet 1803.01534; YOLOv4's concat, 2004.10934)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from torso.bounds import Count
from torso.layers.conv import Activation, ConvNormAct, Norm
from torso.layers.pyramid import upsample_nearest
from torso.necks._base import Neck, check_doubling, cut, initialise_linear, level_widths, levels_between
from torso.necks._extra import ExtraKind, ExtraLevels
from torso.necks.fpn import FPN
from torso.types import FeatureSpec


class PAN(Neck):
    """Every level from stride `finest` to stride `coarsest`, each having seen the finer and the coarser ones.

    Args:
        form: "add": N_l = conv3(conv3_s2(N_{l-1}) + P_l) on an FPN's P; what goes on upwards is the sum, before its
            output convolution (mmdetection). "concat": YOLOv4's, with five convolutions behind each concatenation.
        channels: width of the output levels: one for all, or with "concat" one for each level of the backbone
            (YOLOv4: 128, 256, 512).
        finest, coarsest: strides of the first and the last output level.
        extra: what makes the levels beyond the backbone's, as in FPN; "conv_p5" and "pool" start from the last N.
        norm, activation: of all convolutions; None is the form's own: nothing for "add" (mmdetection; PANet has ReLU),
            bn and leaky_relu for "concat".

    Sizes come from the maps, so odd ones work. With "concat" the coarsest incoming map is taken as it is where it has
    its level's width already (YOLOv4's SPP leaves 512), else brought to it by a 1x1.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        form: Literal["add", "concat"] = "add",
        channels: Count | tuple[Count, ...] = 256,
        finest: int = 8,
        coarsest: int = 128,
        extra: ExtraKind = "conv_p5",
        norm: Norm | None = None,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        positions = levels_between(in_specs, finest, coarsest, type(self).__name__)
        incoming = [in_specs[i] for i in positions]
        check_doubling(incoming, type(self).__name__)
        self._positions, last = positions, incoming[-1]
        widths = level_widths(channels, len(incoming), type(self).__name__)
        if form == "add" and len(set(widths)) > 1:
            raise ValueError(
                f"PAN adds its levels, so they share one width; {tuple(widths)} came: give one number, or form='concat'"
            )
        if form == "add":
            self.paths: nn.Module = _AddPaths(incoming, widths[0], norm or "none", activation or "none")
        else:
            self.paths = _ConcatPaths(incoming, widths, norm or "bn", activation or "leaky_relu")
        self.extra = ExtraLevels(
            last_c=last.channels, channels=widths[-1], stride=last.stride, coarsest=coarsest, kind=extra
        )
        strides = [s.stride for s in incoming] + self.extra.strides
        widths += [widths[-1]] * len(self.extra.strides)
        self.out_specs = tuple(FeatureSpec(c, (s, s)) for c, s in zip(widths, strides, strict=True))
        initialise_linear(self)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        c = [features[i] for i in self._positions]
        n: list[Tensor] = self.paths(c)
        return [*n, *self.extra(c[-1], n[-1])]


class _AddPaths(nn.Module):
    """PANet's two paths over the given levels."""

    def __init__(self, incoming: Sequence[FeatureSpec], channels: int, norm: Norm, activation: Activation) -> None:
        super().__init__()
        finest, coarsest = incoming[0].stride, incoming[-1].stride
        self.fpn = FPN(incoming, channels=channels, finest=finest, coarsest=coarsest, norm=norm, activation=activation)

        def make_convs(stride: int) -> nn.ModuleList:
            return nn.ModuleList(
                ConvNormAct(channels, channels, stride=stride, norm=norm, activation=activation) for _ in incoming[1:]
            )

        self.down, self.output = make_convs(2), make_convs(1)

    def forward(self, c: list[Tensor]) -> list[Tensor]:
        p = self.fpn(c)
        merged, n = p[0], [p[0]]
        for p_next, down, output in zip(p[1:], self.down, self.output, strict=True):
            merged = p_next + cut(down(merged), p_next)
            n.append(output(merged))
        return n


class _ConcatPaths(nn.Module):
    """YOLOv4's two paths over the given levels; t comes down, n goes up."""

    def __init__(
        self, incoming: Sequence[FeatureSpec], widths: Sequence[int], norm: Norm, activation: Activation
    ) -> None:
        super().__init__()

        def conv(a: int, b: int, kernel: int = 1, stride: int = 1) -> ConvNormAct:
            return ConvNormAct(a, b, kernel=kernel, stride=stride, norm=norm, activation=activation)

        def five(width: int) -> nn.Sequential:
            pair = conv(width, 2 * width, 3), conv(2 * width, width)
            return nn.Sequential(conv(2 * width, width), *pair, conv(width, 2 * width, 3), conv(2 * width, width))

        self.lateral = nn.ModuleList(conv(s.channels, w) for s, w in zip(incoming, widths, strict=True))
        if incoming[-1].channels == widths[-1]:
            self.lateral[-1] = nn.Identity()
        steps = list(itertools.pairwise(widths))  # (finer, coarser)
        self.reduce = nn.ModuleList(conv(coarser, finer) for finer, coarser in steps)
        self.top_down = nn.ModuleList(five(finer) for finer, _ in steps)
        self.down = nn.ModuleList(conv(finer, coarser, 3, 2) for finer, coarser in steps)
        self.bottom_up = nn.ModuleList(five(coarser) for _, coarser in steps)

    def forward(self, c: list[Tensor]) -> list[Tensor]:
        t = [lateral(x) for lateral, x in zip(self.lateral, c, strict=True)]
        for i in range(len(t) - 2, -1, -1):
            up = upsample_nearest(self.reduce[i](t[i + 1]), t[i].shape[-2:])
            t[i] = self.top_down[i](torch.cat([t[i], up], dim=1))
        n = [t[0]]
        for i, t_next in enumerate(t[1:]):
            down = cut(self.down[i](n[i]), t_next)
            n.append(self.bottom_up[i](torch.cat([down, t_next], dim=1)))
        return n
