"""The Q, K, V block: torch's own attention where they coincide, closed forms elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torso.blocks.attention import Attention
from torso.parts import find, part

C = 16


def made(**arguments: Any) -> Attention:
    torch.manual_seed(0)
    block: Attention = part(find("attention", "blocks"), **arguments).build(C)
    return block.double()


def image(*size: int) -> Tensor:
    return torch.randn(2, C, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def qkv(block: Attention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[B, d, hw] each."""
    return tuple(conv(x).flatten(2) for conv in (block.query, block.key, block.value))  # type: ignore[return-value]


@pytest.mark.parametrize(("similarity", "scale"), [("dot", 1.0), ("scaled_dot", None)])
def test_over_places_is_torchs_attention(similarity: str, scale: float | None) -> None:
    block, x = made(similarity=similarity, residual=False), image(4, 5)
    q, k, v = (t.mT for t in qkv(block, x))
    want = F.scaled_dot_product_attention(q, k, v, scale=scale).mT.reshape(x.shape)
    torch.testing.assert_close(block(x), want)


@pytest.mark.parametrize("weights", ["softmax", "sigmoid"])
@pytest.mark.parametrize("similarity", ["dot", "scaled_dot", "cosine", "mlp"])
def test_over_places_is_the_definition(similarity: str, weights: str) -> None:
    block, x = made(similarity=similarity, weights=weights, residual=False), image(3, 4)
    q, k, v = qkv(block, x)
    score = torch.zeros(2, 12, 12, dtype=torch.float64)
    for i in range(12):
        for j in range(12):
            a, b = q[:, :, i], k[:, :, j]
            dot = (a * b).sum(1)
            if similarity == "scaled_dot":
                dot = dot / (C // 8) ** 0.5
            elif similarity == "cosine":
                dot = dot / (a.norm(dim=1) * b.norm(dim=1))
            elif similarity == "mlp":
                assert block.additive is not None
                dot = (a + b).tanh() @ block.additive.score.weight[0]
            score[:, i, j] = dot
    mask = score.exp() / score.exp().sum(-1, keepdim=True) if weights == "softmax" else 1 / (1 + (-score).exp())
    want = torch.einsum("bij,bcj->bci", mask, v).reshape(x.shape)
    torch.testing.assert_close(block(x), want)


@pytest.mark.parametrize("weights", ["softmax", "sigmoid"])
@pytest.mark.parametrize("similarity", ["dot", "scaled_dot", "cosine"])
def test_over_channels_compares_them_as_vectors_of_all_places(similarity: str, weights: str) -> None:
    block, x = made(similarity=similarity, weights=weights, over="channels", residual=False), image(3, 4)
    q, k, v = qkv(block, x)
    assert q.shape == k.shape == (2, C, 12)
    score = torch.einsum("bcn,bdn->bcd", q, k)
    if similarity == "scaled_dot":
        score = score / 12**0.5
    if similarity == "cosine":
        score = score / (q.norm(dim=2)[:, :, None] * k.norm(dim=2)[:, None])
    mask = score.softmax(-1) if weights == "softmax" else score.sigmoid()
    torch.testing.assert_close(block(x), (mask @ v).reshape(x.shape))


def test_sagans_form_starts_as_nothing_and_adds_gamma_times_attention() -> None:
    block, x = made(), image(4, 5)
    assert torch.equal(block(x), x)
    assert (block.query.out_channels, block.value.out_channels) == (C // 8, C)
    assert block.gamma is not None
    torch.nn.init.constant_(block.gamma, 0.3)
    q, k, v = qkv(block, x)
    seen = torch.bmm(v, torch.bmm(q.mT, k).softmax(-1).mT)
    torch.testing.assert_close(block(x), 0.3 * seen.reshape(x.shape) + x)


def test_equal_places_get_their_own_value() -> None:
    """Softmax of equal scores is a mean, whatever the similarity; sigmoids of zero scores are halves."""
    x = image(1, 1).expand(-1, -1, 3, 4)
    for similarity in ("dot", "scaled_dot", "cosine", "mlp"):
        block = made(similarity=similarity, residual=False)
        torch.testing.assert_close(block(x), block.value(x))
    block, x = made(weights="sigmoid", residual=False), image(3, 4)
    torch.nn.init.zeros_(block.query.weight)
    assert block.query.bias is not None
    torch.nn.init.zeros_(block.query.bias)
    torch.testing.assert_close(block(x), block.value(x).sum((2, 3), keepdim=True).expand_as(x) / 2)


@pytest.mark.parametrize("over", ["places", "channels"])
def test_places_may_be_shuffled(over: str) -> None:
    block, x = made(over=over, residual=False), image(3, 4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = x.flatten(2)[:, :, order].reshape(x.shape)
    torch.testing.assert_close(block(shuffled).flatten(2), block(x).flatten(2)[:, :, order])


@pytest.mark.parametrize("weights", ["softmax", "sigmoid"])
@pytest.mark.parametrize("similarity", ["dot", "scaled_dot", "cosine", "mlp"])
def test_gradients_reach_every_parameter(similarity: str, weights: str) -> None:
    block = made(similarity=similarity, weights=weights)
    assert block.gamma is not None
    torch.nn.init.ones_(block.gamma)
    block(image(3, 4)).square().sum().backward()
    silent = [n for n, p in block.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_refusals() -> None:
    with pytest.raises(ValueError, match="over='places'"):
        made(similarity="mlp", over="channels")
    with pytest.raises(ValueError, match="reduction: expected a whole number of at least 1, got 0"):
        made(reduction=0)
