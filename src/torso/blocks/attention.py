"""Self-attention over the places or the channels of a map, in Q, K, V form (SAGAN 1805.08318; DANet 1809.02983)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from torso.blocks._base import Block
from torso.bounds import Count
from torso.layers.attention import AdditiveAttention, attend


class Attention(Block):
    """gamma * normalise(similarity(Q, K)) V + x; Q, K and V are 1x1 convolutions of x, gamma starts at 0.

    Args:
        similarity: "dot"; "scaled_dot", divided by the root of the vectors' length; "cosine"; "mlp", w . tanh(q + k).
        weights: "softmax" over all places (channels), or "sigmoid" of each pair by itself. Sigmoids do not sum to
            one: their sum grows with the map.
        over: "places": Q and K of C / reduction channels are compared place by place, a mask of [B, hw, hw].
            "channels": Q, K and V keep C channels, which are compared as vectors of all places, [B, C, C].
        reduction: divides the width of Q and K where they are compared by places.
        residual: False leaves only normalise(similarity(Q, K)) V.

    Over places the cost is the square of hw, so its own place is the coarsest level.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        similarity: Literal["dot", "scaled_dot", "cosine", "mlp"] = "dot",
        weights: Literal["softmax", "sigmoid"] = "softmax",
        over: Literal["places", "channels"] = "places",
        reduction: Count = 8,
        residual: bool = True,
    ) -> None:
        super().__init__()
        if similarity == "mlp" and over == "channels":
            raise ValueError(
                "Attention: an mlp compares vectors of one length, but a channel is as long as its map is large; "
                "choose similarity dot, scaled_dot or cosine over channels, or over='places'"
            )
        self.out_channels = in_channels
        self.over, self.similarity, self.weights = over, similarity, weights
        d = max(1, in_channels // reduction) if over == "places" else in_channels
        self.query = nn.Conv2d(in_channels, d, 1)
        self.key = nn.Conv2d(in_channels, d, 1)
        self.value = nn.Conv2d(in_channels, in_channels, 1)
        self.additive = AdditiveAttention(d, weights=weights) if similarity == "mlp" else None
        self.gamma = nn.Parameter(torch.zeros(1)) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (conv(x).flatten(2) for conv in (self.query, self.key, self.value))  # [B, d or C, hw]
        if self.over == "channels":
            seen = self._attend(q, k, v).reshape(x.shape)
        else:
            seen = self._attend(q.mT, k.mT, v.mT).mT.reshape(x.shape)
        return seen if self.gamma is None else self.gamma.to(seen.dtype) * seen + x

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.similarity == "mlp":
            assert self.additive is not None
            return self.additive(q, k, v)  # type: ignore[no-any-return]
        return attend(q, k, v, similarity=self.similarity, weights=self.weights)
