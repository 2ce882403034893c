"""SpineNet: a backbone whose blocks go up and down in scale, found by search (Du et al. 2020, arXiv 1912.05027)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch.nn.functional as F
from timm.layers.drop import DropPath
from torch import Tensor, nn

from torso.backbones._stages import Staged
from torso.blocks._base import Block
from torso.bounds import BelowOne, Count, Positive
from torso.layers.conv import Activation, ConvNormAct, make_activation
from torso.parts import Part
from torso.types import FeatureSpec

_WIDTH = {2: 64, 3: 128, 4: 256, 5: 256, 6: 256, 7: 256}  # of a block at level l (stride 2 ** l), before filter_scale
_STEM = 64
_LEVELS = (3, 4, 5, 6, 7)


class _Node(NamedTuple):
    """One node of the permuted graph; nodes 0 and 1 are the two blocks of the stem, both of level 2."""

    level: int
    block: Literal["bottleneck", "residual"]
    parents: tuple[int, int]
    output: bool = False
    plus: tuple[int, ...] = ()

    @property
    def expansion(self) -> int:
        """Channels of its map over the width of its block."""
        return 4 if self.block == "bottleneck" else 1


# Nodes 2 to 16. An output also takes, as it is, any earlier node of its level and width that nobody reads: that is
# node 11 for node 14 and no other.
_GRAPH = (
    _Node(2, "bottleneck", (0, 1)),
    _Node(4, "residual", (0, 1)),
    _Node(3, "bottleneck", (2, 3)),
    _Node(4, "bottleneck", (2, 4)),
    _Node(6, "residual", (3, 5)),
    _Node(4, "bottleneck", (3, 5)),
    _Node(5, "residual", (6, 7)),
    _Node(7, "residual", (6, 8)),
    _Node(5, "bottleneck", (8, 9)),
    _Node(5, "bottleneck", (8, 10)),
    _Node(4, "bottleneck", (5, 10), output=True),
    _Node(3, "bottleneck", (4, 10), output=True),
    _Node(5, "bottleneck", (7, 12), output=True, plus=(11,)),
    _Node(7, "bottleneck", (5, 14), output=True),
    _Node(6, "bottleneck", (12, 14), output=True),
)


class SpineNet(Staged):
    """Fifteen blocks in the order of the search; P3 to P7 come out with equal channels and need no neck.

    Args:
        filter_scale: factor of the blocks' widths, truncated.
        alpha: factor of the width inside the resampling between blocks.
        repeats: blocks a node.
        channels: of the five maps (strides 8 to 128).
        activation: ReLU in the paper's first recipe, SiLU ("swish") in its longer one.
        drop_path: chance that an image skips the last node's blocks; it rises linearly from the first node on.
        block: stands behind the nodes that some maps are made from, one of its own for each: the map's 1x1 reads what
            it gives, and so does every node that has this one as a parent. What stands at stride 16 (node 12) reaches
            the maps of 32, 64 and 128, at stride 32 (node 14) those of 64 and 128; the other three nodes have no
            children. The map there is as wide as the node, not `channels`, and must stay so.
        block_strides: of those maps; none given means the block's own place.

    Images of any size are taken; a level has ceil(size / stride) places. There are no published torch weights.
    """

    multiple = 128

    def __init__(
        self,
        *,
        filter_scale: Positive = 1.0,
        alpha: Positive = 0.5,
        repeats: Count = 1,
        channels: Count = 256,
        activation: Activation = "relu",
        drop_path: BelowOne = 0.0,
        block: Part[Block] | None = None,
        block_strides: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        _check_width(filter_scale, alpha)
        width = {level: int(base * filter_scale) for level, base in _WIDTH.items()}
        self.stem = ConvNormAct(3, _STEM, kernel=7, stride=2, norm="bn_tf", activation=activation)
        self.initial = nn.ModuleList(
            _group("bottleneck", c, width[2], repeats, activation, 0.0) for c in (_STEM, 4 * width[2])
        )
        stem_node = _Node(2, "bottleneck", (0, 0))
        nodes = (stem_node, stem_node, *_GRAPH)
        self.cells = nn.ModuleList()
        for i, node in enumerate(_GRAPH):
            drop = drop_path * (i + 1) / len(_GRAPH)
            self.cells.append(_Cell(node, [nodes[p] for p in node.parents], width, alpha, repeats, activation, drop))
        self.endpoints = nn.ModuleList(
            ConvNormAct(4 * width[level], channels, kernel=1, norm="bn_tf", activation=activation) for level in _LEVELS
        )
        self.out_specs = tuple(FeatureSpec(channels, (2**level, 2**level)) for level in _LEVELS)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        ends = {node.level: cell for node, cell in zip(_GRAPH, self.cells, strict=True) if node.output}
        self.insert(block, block_strides, [ends[n] for n in _LEVELS], widths=[4 * width[n] for n in _LEVELS])

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = F.max_pool2d(self.stem(pixels), 3, stride=2, padding=1)
        maps: list[Tensor] = []
        for blocks in self.initial:
            x = blocks(x)
            maps.append(x)
        sizes = _level_sizes(x)
        outputs: dict[int, Tensor] = {}
        for node, cell in zip(_GRAPH, self.cells, strict=True):
            first, second = node.parents
            maps.append(cell(maps[first], maps[second], [maps[p] for p in node.plus], sizes[node.level]))
            if node.output:
                outputs[node.level] = maps[-1]
        return [conv(outputs[level]) for level, conv in zip(_LEVELS, self.endpoints, strict=True)]


class _Cell(nn.Module):
    """A node: the sum of its two resampled parents and of what is added as it is, an activation, its blocks."""

    def __init__(
        self,
        node: _Node,
        parents: Sequence[_Node],
        width: Mapping[int, int],
        alpha: float,
        repeats: int,
        activation: Activation,
        drop_path: float,
    ) -> None:
        super().__init__()
        out = node.expansion * width[node.level]
        self.first, self.second = (_Resample(p, width[p.level], out, node.level, alpha, activation) for p in parents)
        self.act = make_activation(activation)
        self.blocks = _group(node.block, out, width[node.level], repeats, activation, drop_path)

    def forward(self, first: Tensor, second: Tensor, plus: list[Tensor], size_hw: tuple[int, int]) -> Tensor:
        merged = self.first(first, size_hw) + self.second(second, size_hw)
        for x in plus:
            merged = merged + x
        out: Tensor = self.blocks(self.act(merged))
        return out


class _Resample(nn.Module):
    """A parent's map at the level and width of its child: 1x1 to alpha of the width, move, 1x1 without activation.

    width is that of the parent's block: the inner one of a bottleneck, whose map is four times as wide.
    """

    def __init__(
        self, parent: _Node, width: int, out: int, out_level: int, alpha: float, activation: Activation
    ) -> None:
        super().__init__()
        inner = int(width * alpha)
        self.steps = out_level - parent.level
        self.squeeze = ConvNormAct(parent.expansion * width, inner, kernel=1, norm="bn_tf", activation=activation)
        self.down = ConvNormAct(inner, inner, stride=2, norm="bn_tf", activation=activation) if self.steps > 0 else None
        self.expand = ConvNormAct(inner, out, kernel=1, norm="bn_tf")

    def forward(self, x: Tensor, size_hw: tuple[int, int]) -> Tensor:
        x = self.squeeze(x)
        if self.down is not None:
            x = self.down(x)
            if self.steps > 1:  # one pooling for what is left: 3x3 to a quarter, 5x5 beyond
                kernel = 3 if self.steps == 2 else 5
                x = F.max_pool2d(x, kernel, stride=2 ** (self.steps - 1), padding=kernel // 2)
        elif self.steps < 0:
            x = F.interpolate(x, size=size_hw, mode="nearest")
        x = self.expand(x)
        return x


class _Block(nn.Module):
    """Convolutions beside a shortcut, which is a 1x1 where the width changes; activation after the sum."""

    def __init__(self, convs: nn.Sequential, shortcut: nn.Module, activation: Activation, drop_path: float) -> None:
        super().__init__()
        self.convs, self.shortcut = convs, shortcut
        self.drop = DropPath(drop_path) if drop_path else nn.Identity()
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.shortcut(x) + self.drop(self.convs(x)))
        return x


def _group(
    kind: str, in_channels: int, width: int, repeats: int, activation: Activation, drop_path: float
) -> nn.Sequential:
    """`repeats` blocks at stride 1: [B, in_channels, h, w] -> [B, 4 * width or width, h, w]."""
    out = 4 * width if kind == "bottleneck" else width
    blocks = []
    for i in range(repeats):
        c = in_channels if i == 0 else out
        if kind == "bottleneck":
            convs = nn.Sequential(
                ConvNormAct(c, width, kernel=1, norm="bn_tf", activation=activation),
                ConvNormAct(width, width, norm="bn_tf", activation=activation),
                ConvNormAct(width, out, kernel=1, norm="bn_tf"),
            )
        else:
            convs = nn.Sequential(
                ConvNormAct(c, width, norm="bn_tf", activation=activation), ConvNormAct(width, out, norm="bn_tf")
            )
        shortcut = nn.Identity() if c == out else ConvNormAct(c, out, kernel=1, norm="bn_tf")
        blocks.append(_Block(convs, shortcut, activation, drop_path))
    return nn.Sequential(*blocks)


def _level_sizes(level_2: Tensor) -> dict[int, tuple[int, int]]:
    """(height, width) of levels 2 to 7: each half of the one before, rounded up."""
    height, width = level_2.shape[-2:]
    sizes = {}
    for level in range(2, 8):
        sizes[level] = (height, width)
        height, width = (height + 1) // 2, (width + 1) // 2
    return sizes


def _check_width(filter_scale: float, alpha: float) -> None:
    if int(64 * filter_scale * alpha) < 1:
        raise ValueError(
            f"SpineNet: expected int(64 * filter_scale * alpha) of at least 1, got {filter_scale} and {alpha}: give "
            "larger ones"
        )
