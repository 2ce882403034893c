"""Candidates from the device to the host: all columns on their way at once, and one wait for them."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.types import Candidates


def on_cpu(found: Candidates) -> Candidates:
    """The same columns, bit for bit and each of its own type, in host memory; those there already are not copied.

    From CUDA every column is queued into pinned memory (which non_blocking copies from CUDA make) and the host waits
    once for all of them; a plain copy would wait for each.
    """
    device = found.scores.device
    boxes, scores, labels, index = (_queued(column) for column in found[:4])
    variance, level = (None if column is None else _queued(column) for column in (found.variance, found.level))
    if device.type == "cuda":
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(device))
        arrived.synchronize()
    return Candidates(boxes, scores, labels, index, variance, level)


def _queued(column: Tensor) -> Tensor:
    return column.to("cpu", non_blocking=column.is_cuda)
