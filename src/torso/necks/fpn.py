"""Feature pyramid network: a top-down path with lateral connections (Lin et al. 2017, arXiv 1612.03144)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from torso.bounds import Count
from torso.layers.conv import Activation, ConvNormAct, Norm
from torso.layers.pyramid import upsample_nearest
from torso.necks._base import Neck, levels_between
from torso.necks._extra import ExtraKind, ExtraLevels
from torso.types import FeatureSpec


class FPN(Neck):
    """P_l = conv3(conv1(C_l) + upsample(P_{l+1})), every level from stride `finest` to stride `coarsest`.

    Args:
        channels: width of every output level.
        finest, coarsest: strides of the first and the last output level; 8..128 are P3-P7, 4..64 are P2-P6.
        extra: what makes the levels beyond the backbone's: "conv_c5" a stride-2 3x3 of the last backbone map
            (RetinaNet's paper), "conv_p5" of the last pyramid map (FCOS), "pool" takes every second place of P5
            (Faster R-CNN). Between two extra convolutions stands a ReLU.
        norm, activation: of the lateral and output convolutions (none in the paper).

    No activation by default, nearest upsampling to the lateral's own size, so odd sizes work. Levels that the
    backbone offers outside the range are ignored.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        channels: Count = 256,
        finest: int = 8,
        coarsest: int = 128,
        extra: ExtraKind = "conv_p5",
        norm: Norm = "none",
        activation: Activation = "none",
    ) -> None:
        super().__init__()
        self._positions = levels_between(in_specs, finest, coarsest, type(self).__name__)
        incoming = [in_specs[i] for i in self._positions]
        self.lateral = nn.ModuleList(
            ConvNormAct(s.channels, channels, kernel=1, norm=norm, activation=activation) for s in incoming
        )
        self.output = nn.ModuleList(ConvNormAct(channels, channels, norm=norm, activation=activation) for _ in incoming)
        self.extra = ExtraLevels(
            last_c=incoming[-1].channels, channels=channels, stride=incoming[-1].stride, coarsest=coarsest, kind=extra
        )
        strides = [s.stride for s in incoming] + self.extra.strides
        self.out_specs = tuple(FeatureSpec(channels, (s, s)) for s in strides)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_uniform_(conv.weight, a=1)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        c = [features[i] for i in self._positions]
        merged = [lateral(x) for lateral, x in zip(self.lateral, c, strict=True)]
        for i in range(len(merged) - 2, -1, -1):
            merged[i] = merged[i] + upsample_nearest(merged[i + 1], merged[i].shape[-2:])
        p = [output(x) for output, x in zip(self.output, merged, strict=True)]
        return [*p, *self.extra(c[-1], p[-1])]
