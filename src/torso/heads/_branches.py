"""The convolutions of a dense head on one level: towers and outputs, nothing else."""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

from torch import Tensor, nn

from torso.layers.conv import Activation, AlignedConv2d, ConvNormAct, Norm


class LevelOutput(NamedTuple):
    """What one level says, a row a prior: [B, h*w*A, width] each, rows in the order of Priors.levels."""

    logits: Tensor
    codes: Tensor
    quality: Tensor | None
    log_variance: Tensor | None


class Branches(nn.Module):
    """[B, C, h, w] -> LevelOutput; `priors` is A, the number of priors at a place."""

    def __init__(
        self,
        in_channels: int,
        priors: int,
        *,
        channels: int,
        tower: int,
        joint: bool,
        kernel: int,
        norm: Norm,
        activation: Activation,
        bias: bool | None,
        columns: int,
        width: int,
        quality: Literal["none", "cls", "box"],
        uncertainty: bool,
    ) -> None:
        super().__init__()

        def make_tower() -> nn.Sequential:
            widths = [in_channels] + [channels] * tower
            return nn.Sequential(
                *(
                    ConvNormAct(a, b, norm=norm, activation=activation, bias=bias)
                    for a, b in itertools.pairwise(widths)
                )
            )

        self.cls_tower = make_tower()
        self.box_tower = None if joint else make_tower()
        out = channels if tower else in_channels
        self.columns, self.width, self.quality_on = columns, width, quality

        def make_output(values: int) -> nn.Conv2d:
            return AlignedConv2d(out, priors * values, kernel, padding=kernel // 2)

        self.cls_out = make_output(columns)
        self.box_out = make_output(width)
        self.quality_out = None if quality == "none" else make_output(1)
        self.variance_out = make_output(width) if uncertainty else None

    def forward(self, x: Tensor) -> LevelOutput:
        cls = self.cls_tower(x)
        box = cls if self.box_tower is None else self.box_tower(x)
        quality = None
        if self.quality_out is not None:
            quality = rows(self.quality_out(box if self.quality_on == "box" else cls), 1)
        variance = None if self.variance_out is None else rows(self.variance_out(box), self.width)
        logits, codes = rows(self.cls_out(cls), self.columns), rows(self.box_out(box), self.width)
        return LevelOutput(logits, codes, quality, variance)


def rows(maps: Tensor, values: int) -> Tensor:
    """[B, A*values, h, w] -> [B, h*w*A, values]; free in channels_last memory."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, values)
