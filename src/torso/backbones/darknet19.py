"""Darknet-19, plain 3x3 and 1x1 convolutions with max-pools between (Redmon, Farhadi 2016, YOLO9000, 1612.08242)."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from torso.backbones._stages import Staged
from torso.blocks._base import Block
from torso.bounds import Positive
from torso.layers.conv import Activation, ConvNormAct, Norm
from torso.parts import Part
from torso.types import FeatureSpec

# each stage alternates 3x3 of the wide and 1x1 of the narrow width, and stands behind a 2x2 max-pool but for the first
_STAGES = ((32,), (64,), (128, 64, 128), (256, 128, 256), (512, 256, 512, 256, 512), (1024, 512, 1024, 512, 1024))


class Darknet19(Staged):
    """Eighteen convolutions of the nineteen (the last is the classifier's), strides 2 to 32.

    Args:
        width: factor of all channels, rounded to multiples of eight.
        norm, activation: of every convolution.
        block: stands behind the stages of some maps, one of its own for each, before the next stage sees the map.
        block_strides: of those maps; none given means the block's own place, from stride 8 on.

    19.8 M parameters; 72.9 % top-1 on ImageNet at 224 and 76.5 % at 448 pixels. torch packages hold no weights of it.
    """

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(
        self,
        *,
        width: Positive = 1.0,
        norm: Norm = "bn",
        activation: Activation = "leaky_relu",
        block: Part[Block] | None = None,
        block_strides: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        stages = [[max(8, round(c * width / 8) * 8) for c in stage] for stage in _STAGES]
        self.stages = nn.ModuleList()
        incoming = 3  # at stride 1, for which StemConv2d, made of blocks of 2x2 pixels, has no quicker form
        for widths in stages:
            pairs = list(itertools.pairwise((incoming, *widths)))
            self.stages.append(
                nn.Sequential(
                    *(
                        ConvNormAct(a, b, kernel=1 if i % 2 else 3, norm=norm, activation=activation)
                        for i, (a, b) in enumerate(pairs)
                    )
                )
            )
            incoming = widths[-1]
        self.out_specs = tuple(FeatureSpec(w[-1], (1 << i, 1 << i)) for i, w in enumerate(stages) if i)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")
        self.insert(block, block_strides, self.stages[1:])

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.stages[0](pixels)
        out = []
        for stage in self.stages[1:]:
            x = stage(F.max_pool2d(x, 2, ceil_mode=True))
            out.append(x)
        return out
