"""YOLOv1's twenty pretrained convolutions, darknet's "extraction" (Redmon et al. 2015, arXiv 1506.02640, figure 3)."""

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

# (kernel, width) of the convolutions of strides 2, 4, 8, 16, 32; the first has stride 2, the others stand behind pools
_STAGES = (
    ((7, 64),),
    ((3, 192),),
    ((1, 128), (3, 256), (1, 256), (3, 512)),
    (*((1, 256), (3, 512)) * 4, (1, 512), (3, 1024)),
    ((1, 512), (3, 1024)) * 2,
)


class Extraction(Staged):
    """1x1 reductions and 3x3 convolutions, inspired by GoogLeNet without its branches; strides 2 to 32.

    Args:
        width: factor of all channels, rounded to multiples of eight.
        norm: "bn" as in darknet's released files; the paper's own network had none ("none").
        activation: of every convolution.
        block: stands behind the stages of some maps, one of its own for each, before the next stage sees the map.
        block_strides: of those maps; none given means the block's own place, from stride 8 on.

    The paper reports 88 % top-5 on ImageNet at 224 pixels. torch packages hold no weights of it.
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
        stages = [[(k, max(8, round(c * width / 8) * 8)) for k, c in stage] for stage in _STAGES]
        self.stages = nn.ModuleList()
        incoming = 3
        for i, layers in enumerate(stages):
            widths = itertools.pairwise((incoming, *(c for _, c in layers)))
            self.stages.append(
                nn.Sequential(
                    *(
                        ConvNormAct(a, b, kernel=k, stride=1 if i else 2, norm=norm, activation=activation)
                        for (a, b), (k, _) in zip(widths, layers, strict=True)
                    )
                )
            )
            incoming = layers[-1][1]
        self.out_specs = tuple(FeatureSpec(s[-1][1], (2 << i, 2 << i)) for i, s in enumerate(stages))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")
        self.insert(block, block_strides, self.stages)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        out = [self.stages[0](pixels)]
        for stage in self.stages[1:]:
            out.append(stage(F.max_pool2d(out[-1], 2, ceil_mode=True)))
        return out
