"""BiFPN: both ways through the pyramid with learned weights on the edges, repeated (EfficientDet, arXiv 1911.09070)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from torso.bounds import Count
from torso.layers.conv import Activation, Norm
from torso.necks._base import Neck, levels_between
from torso.necks._bifpn_graph import Node, bifpn_graph
from torso.necks._extra import PooledLevels
from torso.necks._fusion import EdgeWeights, Fusion, fuse
from torso.necks._move import Padding, move, size_of
from torso.necks._preact import PreActConv, initialise_glorot, lateral
from torso.types import FeatureSpec


class BiFPN(Neck):
    """P3td = conv(w1 P3 + w2 up(P4td)); P4out = conv(w1 P4 + w2 P4td + w3 down(P3out)); every level, layer by layer.

    Args:
        channels, layers: width of every output level and repetitions; D0 to D7 of the paper are in the zoo.
        finest, coarsest: strides of the first and the last output level, at least two levels.
        fusion: "fast" relu(w) / (1e-4 + sum), "softmax" (a quarter slower in the paper), "sum": none (D6 and D7).
        padding: of the poolings: "same" as in TensorFlow and its weights, or "symmetric".
        norm, activation: behind and before each convolution; "bn_tf" has the paper's constants.
        redundant_bias: a bias before each norm: of no use, but the published weights have it.

    Behind each node: activation, depthwise 3x3, pointwise 1x1, norm (the authors' code; the text puts the activation
    last). Where widths differ, each edge of the first layer has a 1x1 and norm of its own: P4 and P5 have two each.
    Levels beyond the backbone's: P6 = max-pool of a 1x1 and norm on C5, P7 = max-pool of P6. Down is max-pooling 3x3 at
    stride 2, up nearest to the level's own size, so odd sizes work.
    """

    def __init__(
        self,
        in_specs: Sequence[FeatureSpec],
        *,
        channels: Count = 64,
        layers: Count = 3,
        finest: int = 8,
        coarsest: int = 128,
        fusion: Fusion = "fast",
        padding: Padding = "same",
        norm: Norm = "bn_tf",
        activation: Activation = "silu",
        redundant_bias: bool = False,
    ) -> None:
        super().__init__()
        self._positions = levels_between(in_specs, finest, coarsest, type(self).__name__)
        incoming = [in_specs[i] for i in self._positions]
        last = incoming[-1]
        self.extra = PooledLevels(
            project=lateral(last.channels, channels, norm=norm, bias=redundant_bias),
            stride=last.stride,
            coarsest=coarsest,
            overlap=1,
            padding=padding,
        )
        strides = [s.stride for s in incoming] + self.extra.strides
        graph = bifpn_graph(len(strides))
        self.weights = EdgeWeights(layers=layers, edges=[len(n.inputs) for n in graph], fusion=fusion)
        widths = [s.channels for s in incoming] + [channels] * len(self.extra.strides)
        self.layers = nn.ModuleList(
            _Layer(
                widths if i == 0 else [channels] * len(strides),
                strides,
                graph,
                channels,
                padding=padding,
                norm=norm,
                activation=activation,
                bias=redundant_bias,
            )
            for i in range(layers)
        )
        self.out_specs = tuple(FeatureSpec(channels, (s, s)) for s in strides)
        initialise_glorot(self)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        maps = [features[i] for i in self._positions]
        maps = [*maps, *self.extra(maps[-1])]
        weights = self.weights()
        for i, layer in enumerate(self.layers):
            maps = layer(maps, self.weights.of_nodes(None if weights is None else weights[i], maps[-1]))
        return maps


class _Layer(nn.Module):
    """One pass of the graph: list of maps in, list of maps out, one a level."""

    def __init__(
        self,
        widths: Sequence[int],
        strides: Sequence[int],
        graph: Sequence[Node],
        channels: int,
        *,
        padding: Padding,
        norm: Norm,
        activation: Activation,
        bias: bool,
    ) -> None:
        super().__init__()
        self.graph, self.padding = tuple(graph), padding
        self.strides = [*strides, *(strides[node.level] for node in graph)]  # of every map
        widths = [*widths, *([channels] * len(graph))]
        self.lateral = nn.ModuleList(
            lateral(widths[i], channels, norm=norm, bias=bias) for node in graph for i in node.inputs
        )
        self.nodes = nn.ModuleList(
            PreActConv(channels, separable=True, norm=norm, activation=activation, bias=bias) for _ in graph
        )

    def forward(self, maps: list[Tensor], weights: list[list[Tensor] | None]) -> list[Tensor]:
        levels, known, lateral = len(maps), list(maps), iter(self.lateral)
        for (level, inputs), conv, w in zip(self.graph, self.nodes, weights, strict=True):
            size, target = size_of(maps[level]), self.strides[level]
            meeting = [
                move(next(lateral)(known[i]), self.strides[i], target, size, padding=self.padding) for i in inputs
            ]
            known.append(conv(fuse(meeting, w)))
        return known[-levels:]
