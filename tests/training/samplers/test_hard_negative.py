"""Hard negative mining against a plain loop: three of background a positive, the costliest, image by image."""

from __future__ import annotations

import pytest
import torch

from torso.training.assignment import Assignment
from torso.training.samplers.hard_negative import HardNegativeSampler


def plain(target: list[int], loss: list[float], ratio: float, least: int) -> list[int]:
    positives = sum(t >= 0 for t in target)
    hardest = sorted((i for i, t in enumerate(target) if t == -1), key=lambda i: -loss[i])
    kept = set(hardest[: max(int(positives * ratio), least)])
    return [t if t != -1 or i in kept else -2 for i, t in enumerate(target)]


@pytest.mark.parametrize(("ratio", "least"), [(3.0, 0), (2.5, 0), (1.0, 7), (100.0, 0)])
def test_keeps_the_costliest_background(ratio: float, least: int) -> None:
    g = torch.Generator().manual_seed(0)
    target = torch.randint(-2, 1, (4, 60), generator=g)
    target = torch.where((target == 0) & (torch.rand(4, 60, generator=g) < 0.7), -1, target)
    target[2] = torch.where(target[2] >= 0, -1, target[2])  # an image without objects
    loss = torch.rand(4, 60, generator=g) * 50
    quality = torch.rand(4, 60)
    out = HardNegativeSampler(ratio=ratio, least=least)(Assignment(target, quality), loss)
    assert out.quality is quality
    for i in range(4):
        assert out.target[i].tolist() == plain(target[i].tolist(), loss[i].tolist(), ratio, least)


def test_wants_the_loss() -> None:
    with pytest.raises(ValueError, match="needs the loss of every prior"):
        HardNegativeSampler()(Assignment(torch.zeros(1, 4, dtype=torch.int64)))


def test_compiles_whole() -> None:
    target, loss = torch.randint(-2, 2, (2, 40)), torch.rand(2, 40)
    sampler = HardNegativeSampler()
    torch.compiler.reset()
    compiled = torch.compile(lambda t, x: sampler(Assignment(t), x).target, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(target, loss), sampler(Assignment(target), loss).target)
