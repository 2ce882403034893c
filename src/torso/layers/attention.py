"""Attention(Q, K, V) = normalise(similarity(Q, K)) V: the similarities, the normalisers, and torch's fast kernel."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Similarity = Literal["dot", "scaled_dot", "cosine"]
Weights = Literal["softmax", "sigmoid"]


def attend(q: Tensor, k: Tensor, v: Tensor, *, similarity: Similarity, weights: Weights) -> Tensor:
    """[B, N, d], [B, M, d], [B, M, C] -> [B, N, C].

    similarity: "dot" q.k; "scaled_dot" q.k / sqrt(d); "cosine" q.k / (|q| |k|), 0 for a zero vector.
    weights: "softmax" over M, or "sigmoid" of each pair by itself: these do not sum to one.

    Softmax goes through torch's scaled_dot_product_attention, whose memory is O(N) where it has a kernel for it;
    sigmoid holds the matrix of N x M.
    """
    if similarity == "cosine":
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    scale = q.shape[-1] ** -0.5 if similarity == "scaled_dot" else 1.0
    if weights == "softmax":
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], scale=scale)[:, 0]
    return torch.bmm((torch.bmm(q, k.transpose(1, 2)) * scale).sigmoid(), v)


class AdditiveAttention(nn.Module):
    """The same with the similarity w . tanh(q + k) of Bahdanau (1409.0473), where q and k carry the hidden layer.

    Its matrix is N x M x d before w: much memory, meant for small maps.
    """

    def __init__(self, d: int, *, weights: Weights) -> None:
        super().__init__()
        self.score = nn.Linear(d, 1, bias=False)
        self.weights = weights

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores: Tensor = self.score((q[:, :, None] + k[:, None]).tanh()).squeeze(-1)
        mask = scores.softmax(dim=-1) if self.weights == "softmax" else scores.sigmoid()
        return torch.bmm(mask, v)
