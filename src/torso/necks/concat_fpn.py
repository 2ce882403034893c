"""A top-down pyramid joined by concatenation, YOLOv3's neck (Redmon, Farhadi 2018, arXiv 1804.02767)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torso.bounds import Count
from torso.layers.conv import Activation, ConvNormAct, Norm
from torso.layers.pyramid import upsample_nearest
from torso.necks._base import Neck, initialise_linear, level_widths, levels_between
from torso.types import FeatureSpec


class ConcatFPN(Neck):
    """Every level from stride `finest` to `coarsest`: five convolutions on [what comes down, the backbone's map].

    Args:
        channels: width of the output levels, one for all or one each, fine to coarse (YOLOv3: 128, 256, 512); inside,
            every other convolution is a 3x3 of twice that.
        finest, coarsest: strides of the first and the last level; all of them are the backbone's.
        norm, activation: of all convolutions.

    A coarsest map that has its level's width already is taken as it is: an SPP before this neck stands in the place of
    its five convolutions (YOLOv3-SPP). Sizes come from the maps, so odd ones work.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        channels: Count | tuple[Count, ...] = (128, 256, 512),
        finest: int = 8,
        coarsest: int = 32,
        norm: Norm = "bn",
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        self._positions = levels_between(in_specs, finest, coarsest, type(self).__name__)
        incoming = [in_specs[i] for i in self._positions]
        widths = level_widths(channels, len(incoming), type(self).__name__)

        def conv(a: int, b: int, kernel: int = 1) -> ConvNormAct:
            return ConvNormAct(a, b, kernel=kernel, norm=norm, activation=activation)

        def five(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(conv(a, b), conv(b, 2 * b, 3), conv(2 * b, b), conv(b, 2 * b, 3), conv(2 * b, b))

        steps = list(itertools.pairwise(widths))  # (finer, coarser)
        self.reduce = nn.ModuleList(conv(coarser, finer) for finer, coarser in steps)
        self.top_down = nn.ModuleList(
            five(finer + s.channels, finer) for (finer, _), s in zip(steps, incoming[:-1], strict=True)
        )
        last = incoming[-1]
        done = last.channels == widths[-1]
        self.top_down.append(nn.Identity() if done else five(last.channels, widths[-1]))
        self.out_specs = tuple(FeatureSpec(w, s.stride_yx) for w, s in zip(widths, incoming, strict=True))
        initialise_linear(self)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        c = [features[i] for i in self._positions]
        t = [self.top_down[-1](c[-1])]
        for c_l, reduce, five in zip(c[-2::-1], reversed(self.reduce), reversed(self.top_down[:-1]), strict=True):
            up = upsample_nearest(reduce(t[0]), (int(c_l.shape[-2]), int(c_l.shape[-1])))
            t.insert(0, five(torch.cat([up, c_l], dim=1)))
        return t
