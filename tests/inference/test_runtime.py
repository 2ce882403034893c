"""Candidates on their way to the host: the same bits and types, and on CUDA no wait for a single column."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torso.types import Candidates


def candidates(device: str, *, variance: bool = True) -> Candidates:
    torch.manual_seed(0)
    columns: list[Tensor] = [torch.rand(2, 50, 4) * 640, torch.rand(2, 50), torch.randint(80, (2, 50))]
    columns += [torch.randint(2**40, (2, 50)), torch.rand(2, 50, 4, dtype=torch.float64)]
    boxes, scores, labels, index, spread = (c.to(device) for c in columns)
    level = None if variance else index % 5
    return Candidates(boxes, scores, labels, index, spread if variance else None, level)


@pytest.mark.parametrize("variance", [True, False])
def test_columns_in_host_memory_are_handed_on_as_they_are(variance: bool) -> None:
    found = candidates("cpu", variance=variance)
    assert all(ours is theirs for ours, theirs in zip(found.on_cpu(), found, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("variance", [True, False])
def test_from_cuda_the_bits_come_with_one_wait(variance: bool) -> None:
    found, wanted = candidates("cuda", variance=variance), candidates("cpu", variance=variance)
    torch.cuda.set_sync_debug_mode("error")  # at a copy that waits for itself; the event's wait is not one
    try:
        got = found.on_cpu()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for ours, theirs in zip(got, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert (ours.device, ours.dtype) == (theirs.device, theirs.dtype)
            assert torch.equal(ours, theirs)
