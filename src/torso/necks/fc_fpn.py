"""Fully connected FPN: every output level from every input level (EfficientDet's table 5, arXiv 1911.09070)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from torso.bounds import Count
from torso.layers.conv import Activation, Norm
from torso.necks._base import Neck, levels_between
from torso.necks._extra import PooledLevels
from torso.necks._fusion import EdgeWeights, Fusion, fuse
from torso.necks._move import Padding, move, size_of
from torso.necks._preact import PreActConv, initialise_glorot, lateral
from torso.types import FeatureSpec


class FCFPN(Neck):
    """O_j = conv_j(sum_i w_ij move_i->j(P_i)) over all levels i, j; `repeats` times.

    No text and no code defines this neck: EfficientDet's table gives one row of it (43.06 AP; 1.24 times the
    parameters and 1.21 times the FLOPs of a repeated FPN). This is our reading, with BiFPN's building blocks, so that
    the two differ in the graph alone.

    Args:
        channels, repeats: width of every output level and repetitions.
        finest, coarsest: strides of the first and the last output level.
        edge_conv: one convolution an edge, on the map before it is moved, in place of one an output: five times as
            many at five levels. Exactly one convolution lies between any input and any output either way.
        fusion: "sum" (the table's row is unweighted), "fast" or "softmax" as in BiFPN.
        padding, norm, activation: as in BiFPN. A convolution is activation, depthwise 3x3, pointwise 1x1, norm.

    Down by a ratio r is one max-pooling of r + 1 at stride r, up is nearest, to the level's own size. One 1x1 and norm
    a level brings other widths to `channels`; levels beyond the backbone's are max-poolings of the last.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        channels: Count = 64,
        repeats: Count = 3,
        finest: int = 8,
        coarsest: int = 128,
        edge_conv: bool = False,
        fusion: Fusion = "sum",
        padding: Padding = "same",
        norm: Norm = "bn_tf",
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self._positions = levels_between(in_specs, finest, coarsest, type(self).__name__)
        incoming = [in_specs[i] for i in self._positions]
        self.lateral = nn.ModuleList(lateral(s.channels, channels, norm=norm) for s in incoming)
        self.extra = PooledLevels(
            project=nn.Identity(), stride=incoming[-1].stride, coarsest=coarsest, overlap=1, padding=padding
        )
        strides = [s.stride for s in incoming] + self.extra.strides
        self.weights = EdgeWeights(layers=repeats, edges=[len(strides)] * len(strides), fusion=fusion)
        self.layers = nn.ModuleList(
            _Layer(strides, channels, edge_conv=edge_conv, padding=padding, norm=norm, activation=activation)
            for _ in range(repeats)
        )
        self.out_specs = tuple(FeatureSpec(channels, (s, s)) for s in strides)
        initialise_glorot(self)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        maps = [conv(features[i]) for conv, i in zip(self.lateral, self._positions, strict=True)]
        maps = [*maps, *self.extra(maps[-1])]
        weights = self.weights()
        for i, layer in enumerate(self.layers):
            maps = layer(maps, self.weights.of_nodes(None if weights is None else weights[i], maps[-1]))
        return maps


class _Layer(nn.Module):
    """All edges once: list of maps in, list of maps out."""

    def __init__(
        self,
        strides: Sequence[int],
        channels: int,
        *,
        edge_conv: bool,
        padding: Padding,
        norm: Norm,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.strides, self.padding, levels = tuple(strides), padding, len(strides)

        def convs(number: int) -> nn.ModuleList:
            return nn.ModuleList(
                PreActConv(channels, separable=True, norm=norm, activation=activation, bias=False)
                for _ in range(number)
            )

        self.edges = convs(levels**2 if edge_conv else 0)  # row by row: all edges into the first level come first
        self.nodes = convs(0 if edge_conv else levels)

    def forward(self, maps: list[Tensor], weights: list[list[Tensor] | None]) -> list[Tensor]:
        out, levels = [], len(maps)
        for j, (target, w) in enumerate(zip(self.strides, weights, strict=True)):
            sources = maps
            if len(self.edges):
                sources = [self.edges[j * levels + i](x) for i, x in enumerate(maps)]
            size = size_of(maps[j])
            meeting = [
                move(x, source, target, size, padding=self.padding)
                for x, source in zip(sources, self.strides, strict=True)
            ]
            fused = fuse(meeting, w)
            out.append(fused if len(self.edges) else self.nodes[j](fused))
        return out
