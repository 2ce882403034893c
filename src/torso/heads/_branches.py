"""The convolutions of a dense head on one level: towers and outputs, nothing else."""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

from torch import Tensor, nn

from torso.layers.conv import Activation, AlignedConv2d, Norm, make_activation, make_norm
from torso.layers.separable import SeparableConv2d

QualityTower = Literal["none", "cls", "box", "own"]


class LevelOutput(NamedTuple):
    """What one level says, a row a prior: [B, h*w*A, width] each, rows as in Priors.levels; and its map's size."""

    logits: Tensor
    codes: Tensor
    quality: Tensor | None
    log_variance: Tensor | None
    size_hw: tuple[int, int]


class Branches(nn.Module):
    """[B, C, h, w] -> LevelOutput; `priors` is A, the number of priors at a location.

    channels, box_channels: widths of the class tower (of both outputs where joint) and of the box tower.
    norm_levels: norms behind each convolution of a tower, of which forward's `level` picks one; None is one for all.
    separable: depthwise 3x3 and pointwise 1x1 in place of every 3x3. depthwise: towers of depthwise convolutions alone,
    so that channels and in_channels are equal. tower_kernel: of the towers' convolutions.
    quality: the tower that it is read from, "own" is one more, as wide as the class tower.
    """

    def __init__(
        self,
        in_channels: int,
        priors: int,
        *,
        channels: int,
        box_channels: int,
        tower: int,
        joint: bool,
        kernel: int,
        norm: Norm,
        activation: Activation,
        bias: bool | None,
        columns: int,
        width: int,
        quality: QualityTower,
        uncertainty: bool,
        separable: bool,
        norm_levels: int | None,
        depthwise: bool = False,
        tower_kernel: int = 3,
    ) -> None:
        super().__init__()

        def make_tower(width: int) -> nn.ModuleList:
            widths = [in_channels] + [width] * tower
            return nn.ModuleList(
                TowerLayer(
                    a,
                    b,
                    norm=norm,
                    activation=activation,
                    bias=bias,
                    separable=separable,
                    norm_levels=norm_levels,
                    depthwise=depthwise,
                    kernel=tower_kernel,
                )
                for a, b in itertools.pairwise(widths)
            )

        self.cls_tower = make_tower(channels)
        self.box_tower = None if joint else make_tower(box_channels)
        self.quality_tower = make_tower(channels) if quality == "own" else None
        of_cls = channels if tower else in_channels
        of_box = box_channels if tower and not joint else of_cls
        self.columns, self.width, self.quality_on = columns, width, quality

        def make_output(incoming: int, values: int) -> nn.Module:
            if separable:
                return SeparableConv2d(incoming, priors * values, kernel=kernel)
            return AlignedConv2d(incoming, priors * values, kernel, padding=kernel // 2)

        self.cls_out = make_output(of_cls, columns)
        self.box_out = make_output(of_box, width)
        self.quality_out = None if quality == "none" else make_output(of_box if quality == "box" else of_cls, 1)
        self.variance_out = make_output(of_box, width) if uncertainty else None

    @property
    def cls_bias(self) -> nn.Parameter:
        """Of the class output: priors x columns."""
        return _bias(self.cls_out)

    @property
    def quality_bias(self) -> nn.Parameter:
        """Of the quality output, where there is one: a number a prior."""
        assert self.quality_out is not None
        return _bias(self.quality_out)

    def forward(self, x: Tensor, level: int = 0) -> LevelOutput:
        cls = _through(self.cls_tower, x, level)
        box = cls if self.box_tower is None else _through(self.box_tower, x, level)
        quality = None
        if self.quality_out is not None:
            own = None if self.quality_tower is None else _through(self.quality_tower, x, level)
            quality = rows(self.quality_out({"box": box, "cls": cls, "own": own}[self.quality_on]), 1)
        variance = None if self.variance_out is None else rows(self.variance_out(box), self.width)
        logits, codes = rows(self.cls_out(cls), self.columns), rows(self.box_out(box), self.width)
        return LevelOutput(logits, codes, quality, variance, (int(x.shape[-2]), int(x.shape[-1])))


class TowerLayer(nn.Module):
    """Convolution (3x3 unless set otherwise) -> norm -> activation, where every level may have a norm of its own."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Norm,
        activation: Activation,
        bias: bool | None,
        separable: bool,
        norm_levels: int | None,
        depthwise: bool,
        kernel: int,
    ) -> None:
        super().__init__()
        bias = norm == "none" if bias is None else bias
        groups = in_channels if depthwise else 1
        self.conv: nn.Module = (
            SeparableConv2d(in_channels, out_channels, kernel=kernel, bias=bias)
            if separable
            else nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=bias)
        )
        self.norm: nn.Module = (
            make_norm(norm, out_channels)
            if norm_levels is None
            else nn.ModuleList(make_norm(norm, out_channels) for _ in range(norm_levels))
        )
        self.act = make_activation(activation)

    def forward(self, x: Tensor, level: int) -> Tensor:
        norm = self.norm[level] if isinstance(self.norm, nn.ModuleList) else self.norm
        y: Tensor = self.act(norm(self.conv(x)))
        return y


def last_convolution(output: nn.Module) -> nn.Conv2d:
    """Of an output: itself, or the pointwise one where it is separable."""
    last = output.pointwise if isinstance(output, SeparableConv2d) else output
    assert isinstance(last, nn.Conv2d)
    return last


def _bias(output: nn.Module) -> nn.Parameter:
    bias = last_convolution(output).bias
    assert isinstance(bias, nn.Parameter)
    return bias


def _through(tower: nn.ModuleList, x: Tensor, level: int) -> Tensor:
    for layer in tower:
        x = layer(x, level)
    return x


def rows(maps: Tensor, values: int) -> Tensor:
    """[B, A*values, h, w] -> [B, h*w*A, values]; free in channels_last memory."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, values)
