"""Attention as a function: sources and targets of different number, the edges of its similarities."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from torso.layers.attention import AdditiveAttention, attend


def qkv(n: int = 5, m: int = 7, d: int = 4, c: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, *s, generator=g, dtype=torch.float64) for s in ((n, d), (m, d), (m, c)))  # type: ignore[return-value]


@pytest.mark.parametrize("weights", ["softmax", "sigmoid"])
def test_cosine_knows_no_lengths_and_minds_no_zero_vector(weights: Literal["softmax", "sigmoid"]) -> None:
    q, k, v = qkv()
    once = attend(q, k, v, similarity="cosine", weights=weights)
    torch.testing.assert_close(attend(3 * q, 0.1 * k, v, similarity="cosine", weights=weights), once)
    q[:, 0] = 0
    nothing = attend(q, k, v, similarity="cosine", weights=weights)[:, 0]
    torch.testing.assert_close(nothing, v.mean(1) if weights == "softmax" else v.sum(1) / 2)


def test_scaling_is_by_the_root_of_the_length() -> None:
    q, k, v = qkv()
    scaled = attend(q, k, v, similarity="scaled_dot", weights="softmax")
    torch.testing.assert_close(scaled, attend(q / 2, k, v, similarity="dot", weights="softmax"))


def test_softmax_weights_sum_to_one_and_sigmoids_need_not() -> None:
    q, k, _ = qkv()
    ones = torch.ones(2, 7, 1, dtype=torch.float64)
    torch.testing.assert_close(attend(q, k, ones, similarity="dot", weights="softmax"), torch.ones_like(ones[:, :5]))
    sums = attend(q, k, ones, similarity="dot", weights="sigmoid")
    torch.testing.assert_close(sums[..., 0], (q @ k.mT).sigmoid().sum(-1))


def test_a_large_dot_product_picks_one_source() -> None:
    _, _, v = qkv()
    eye = torch.eye(7, dtype=torch.float64).expand(2, 7, 7)
    torch.testing.assert_close(attend(1e3 * eye, eye, v, similarity="dot", weights="softmax"), v)


def test_additive_attention_without_a_score_is_a_mean() -> None:
    q, k, v = qkv()
    mlp = AdditiveAttention(4, weights="softmax").double()
    torch.nn.init.zeros_(mlp.score.weight)
    torch.testing.assert_close(mlp(q, k, v), v.mean(1, keepdim=True).expand(2, 5, 3))
