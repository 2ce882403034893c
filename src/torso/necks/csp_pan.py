"""Path aggregation by concatenation and CSP layers, the neck of YOLOv5 and YOLOX (Ge et al. 2021, arXiv 2107.08430)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from torso.bounds import Count
from torso.layers.conv import Activation, ConvNormAct, Norm
from torso.layers.csp import C3, C2f
from torso.layers.pyramid import upsample_nearest
from torso.necks._base import Neck, check_doubling, cut, initialise_linear, level_widths, levels_between
from torso.necks._extra import ExtraKind, ExtraLevels
from torso.types import FeatureSpec


class CSPPAN(Neck):
    """Every level from stride `finest` to stride `coarsest`, each having seen the finer and the coarser ones.

    Args:
        channels: width of the output levels, brought to it by a 1x1 each (YOLOX, 256 at width 1); None lets each keep
            its own (YOLOv5).
        widths: of the two paths, one for each level of the backbone; None is the width that comes (YOLOX: 256, 512,
            1024); levels of another width are brought to theirs by a 1x1 first.
        depth: bottlenecks in each CSP layer (YOLOX: 3 at depth 1).
        layer: "c3", with a 1x1 that narrows each map before it is joined to a finer one, or "c2f", whose layers join
            every bottleneck's output and narrow by themselves (as ELAN does, arXiv 2207.02696).
        finest, coarsest: strides of the first and the last output level.
        extra: what makes the levels beyond the backbone's, as in FPN; "conv_p5" and "pool" start from the last level.
        norm, activation: of all convolutions. BatchNorm has YOLOX's eps 1e-3 and momentum 0.03.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        channels: Count | None = 256,
        widths: tuple[Count, ...] | None = None,
        depth: Count = 3,
        layer: Literal["c3", "c2f"] = "c3",
        finest: int = 8,
        coarsest: int = 128,
        extra: ExtraKind = "conv_p5",
        norm: Norm = "bn",
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self._positions = levels_between(in_specs, finest, coarsest, type(self).__name__)
        incoming = [in_specs[i] for i in self._positions]
        check_doubling(incoming, type(self).__name__)
        inner = level_widths(widths or tuple(s.channels for s in incoming), len(incoming), type(self).__name__)

        def conv(a: int, b: int, kernel: int = 1, stride: int = 1) -> ConvNormAct:
            return ConvNormAct(a, b, kernel=kernel, stride=stride, norm=norm, activation=activation)

        def csp(a: int, b: int) -> nn.Module:
            partial = C3 if layer == "c3" else C2f
            return partial(a, b, depth=depth, shortcut=False, norm=norm, activation=activation)

        self.lateral = nn.ModuleList(
            nn.Identity() if s.channels == w else conv(s.channels, w) for s, w in zip(incoming, inner, strict=True)
        )
        steps = list(itertools.pairwise(inner))  # (finer, coarser)
        narrowed = [(f, f) if layer == "c3" else (f, c) for f, c in steps]  # widths of [t_l, t_{l+1}] where they meet
        self.reduce = nn.ModuleList(
            conv(coarser, finer) if layer == "c3" else nn.Identity() for finer, coarser in steps
        )
        self.top_down = nn.ModuleList(csp(a + b, a) for a, b in narrowed)
        self.down = nn.ModuleList(conv(finer, finer, 3, 2) for finer, _ in steps)
        self.bottom_up = nn.ModuleList(csp(a + b, c) for (a, b), (_, c) in zip(narrowed, steps, strict=True))
        out = inner if channels is None else [channels] * len(inner)
        self.output = nn.ModuleList(
            nn.Identity() if channels is None else conv(w, c) for w, c in zip(inner, out, strict=True)
        )
        last = incoming[-1]
        self.extra = ExtraLevels(
            last_c=last.channels, channels=out[-1], stride=last.stride, coarsest=coarsest, kind=extra
        )
        initialise_linear(self.extra)
        strides = [s.stride for s in incoming] + self.extra.strides
        out += [out[-1]] * len(self.extra.strides)
        self.out_specs = tuple(FeatureSpec(c, (s, s)) for c, s in zip(out, strides, strict=True))
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eps, m.momentum = 1e-3, 0.03

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        c = [features[i] for i in self._positions]
        t = [lateral(x) for lateral, x in zip(self.lateral, c, strict=True)]
        for i in range(len(t) - 2, -1, -1):
            t[i + 1] = self.reduce[i](t[i + 1])  # the narrow map is also what the way up meets again
            up = upsample_nearest(t[i + 1], t[i].shape[-2:])
            t[i] = self.top_down[i](torch.cat([up, t[i]], dim=1))
        n = [t[0]]
        for i, t_next in enumerate(t[1:]):
            down = cut(self.down[i](n[i]), t_next)
            n.append(self.bottom_up[i](torch.cat([down, t_next], dim=1)))
        out = [output(x) for output, x in zip(self.output, n, strict=True)]
        return [*out, *self.extra(c[-1], out[-1])]
