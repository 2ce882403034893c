"""Weighing and adding the maps that meet at a node, the ways of EfficientDet (arXiv 1911.09070, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Fusion = Literal["fast", "softmax", "sum"]
_EPS = 1e-4


class EdgeWeights(nn.Module):
    """One learnable number an edge, from 1, normalised over the edges that meet at a node.

    Args:
        layers: repetitions of the graph. edges: how many edges meet at each of its nodes.
        fusion: "fast" relu(w) / (1e-4 + sum), "softmax", or "sum": no weights, plain addition.

    All weights of the neck are one parameter, layer by layer, so that they are normalised by a few kernels once a
    forward pass, not by a few a node. It has one dimension and so, like a norm's, no weight decay.
    """

    same_node: Tensor  # [E, E] bool: do two edges meet?

    def __init__(self, *, layers: int, edges: Sequence[int], fusion: Fusion) -> None:
        super().__init__()
        self.fusion, self.edges = fusion, tuple(edges)
        if fusion == "sum":
            return
        self.weight = nn.Parameter(torch.ones(layers * sum(edges)))
        node = torch.tensor([i for i, count in enumerate(edges) for _ in range(count)])
        self.register_buffer("same_node", node[:, None] == node, persistent=False)

    def forward(self) -> Tensor | None:
        """[layers, E], summing to one (almost, where fast) over the edges of each node; None for a plain sum."""
        if self.fusion == "sum":
            return None
        w = self.weight.view(-1, sum(self.edges))
        w = w.to(torch.promote_types(w.dtype, torch.float32))  # a ratio in bf16 is off by 0.4 %
        if self.fusion == "softmax":
            apart = w[:, None].masked_fill(~self.same_node, -torch.inf)  # [layers, E, E]
            return apart.softmax(-1).diagonal(dim1=1, dim2=2)
        w = w.relu()
        return w / (_EPS + (w[:, None] * self.same_node).sum(-1))

    def of_nodes(self, layer: Tensor | None, like: Tensor) -> list[list[Tensor] | None]:
        """A layer's row as numbers of the maps' type, a list a node."""
        if layer is None:
            return [None] * len(self.edges)
        rest = list(layer.to(like.dtype).unbind())
        starts = [sum(self.edges[:i]) for i in range(len(self.edges))]
        return [rest[start : start + count] for start, count in zip(starts, self.edges, strict=True)]


def fuse(maps: Sequence[Tensor], weights: Sequence[Tensor] | None) -> Tensor:
    """sum w_i x_i of maps of one size; a plain sum without weights."""
    if weights is None:
        out = maps[0]
        for x in maps[1:]:
            out = out + x
        return out
    out = maps[0] * weights[0]
    for x, w in zip(maps[1:], weights[1:], strict=True):
        out = torch.addcmul(out, x, w)
    return out
