"""Transposed convolutions from the coarsest map to a fine one (Simple Baselines 1804.06208; CenterNet 1904.07850)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

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
        widths: tuple[int, ...] = (256, 128, 64),
        kernel: int = 4,
        norm: Norm = "bn",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        strides = [s.stride for s in in_specs]
        stages = _stages(strides[-1], finest, len(widths))
        if kernel not in (2, 4):
            raise ValueError(f"Upsample.kernel must be 2 or 4 to double a map exactly; {kernel} came")
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


def _stages(coarsest: int, finest: int, available: int) -> int:
    """How many doublings lead from one stride to the other; ValueError where none or more than `available` do."""
    for stages in range(1, available + 1):
        if finest * 2**stages == coarsest:
            return stages
    raise ValueError(
        f"Upsample goes from the coarsest incoming stride {coarsest} to {finest} in doublings, one a width, and has "
        f"{available} widths: set finest to {coarsest} / 2, / 4, ..., or give as many widths as there are doublings"
    )
