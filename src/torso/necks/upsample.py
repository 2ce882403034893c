"""Transposed convolutions from the coarsest map to a fine one (Simple Baselines 1804.06208; CenterNet 1904.07850)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from torso.bounds import Count
from torso.errors import PartError, Settings
from torso.layers.conv import Activation, ConvNormAct, Norm, make_activation, make_norm
from torso.necks._base import Neck
from torso.types import FeatureSpec


class Upsample(Neck):
    """One level of stride `finest`: behind the coarsest map, stages of a 3x3 convolution and a transposed one (x2).

    Args:
        finest: stride of the level that comes out, the only one.
        widths: of the stages, coarse to fine; the last belongs to stride `finest`. A backbone that ends at stride 16
            takes only the last two of three.
        kernel: of the transposed convolutions: 4 or 2 double a map exactly.
        norm, activation: behind every convolution.

    Where a map of stride `finest` comes in, the output is cut to its size: eight times a size that was rounded up is
    too large. PyTorch's initialisation: the authors' bilinear one fills only the first output channel of each stage.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        finest: int = 4,
        widths: tuple[Count, ...] = (256, 128, 64),
        kernel: Literal[2, 4] = 4,
        norm: Norm = "bn",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        strides = [s.stride for s in in_specs]
        stages = _stages(strides[-1], finest, widths)
        self._like = strides.index(finest) if finest in strides else None
        layers: list[nn.Module] = []
        before = in_specs[-1].channels
        for width in widths[len(widths) - stages :]:
            layers += [
                ConvNormAct(before, width, norm=norm, activation=activation),
                nn.ConvTranspose2d(width, width, kernel, stride=2, padding=kernel // 2 - 1, bias=norm == "none"),
                make_norm(norm, width),
                make_activation(activation),
            ]
            before = width
        self.stages = nn.Sequential(*layers)
        self.out_specs = (FeatureSpec(before, (finest, finest)),)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        x = self.stages(features[-1])
        if self._like is not None:
            like = features[self._like]
            x = x[..., : like.shape[-2], : like.shape[-1]]
        return [x]


def _stages(coarsest: int, finest: int, widths: Sequence[int]) -> int:
    """How many doublings lead from one stride to the other; ValueError where none or more than there are widths do."""
    stages, reached = 0, coarsest
    while reached > finest and reached % 2 == 0:
        stages, reached = stages + 1, reached // 2
    doubles = reached == finest and stages > 0
    if doubles and stages <= len(widths):
        return stages
    usable = [coarsest // 2**k for k in range(len(widths), 0, -1) if coarsest % 2**k == 0]
    more = (*[widths[0]] * (stages - len(widths)), *widths) if doubles and widths else ()
    ways: list[Settings] = [{"neck.finest": stride, "head.finest": stride} for stride in usable]
    if more or not usable:
        ways.append({"neck.widths": more or (256, 128, 64)})
    raise PartError(
        f"Upsample doubles the coarsest incoming map, of stride {coarsest}, once for each of at most {len(widths)} "
        f"widths; finest={finest} is {f'{stages} doublings away' if doubles else 'no such doubling of it'}",
        remedies=ways,
    )
