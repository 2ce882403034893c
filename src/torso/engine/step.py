"""One optimiser step's loss: exact over the effective batch, whatever it is cut into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from torso.training.criteria._base import Criterion, Terms
from torso.types import Images

MicroBatch = tuple[Images, Any]
"""Images, and targets as the task's criterion takes them."""
Forward = Callable[[Images, Any], Terms]
CountsOf = Callable[[Images, Any], Tensor]
Reduce = Callable[[Tensor], Tensor]


class TrainStep(nn.Module):
    """Forward pass and loss terms of one micro-batch: what torch.compile turns into one graph.

    dtype: of the forward pass under autocast; None computes in the parameters' own. Losses are summed in float32.

    Raises ValueError where the criterion cannot train the model; no step asks again.
    """

    def __init__(self, model: nn.Module, criterion: Criterion, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        criterion.check(model)
        self.model, self.criterion, self.dtype = model, criterion, dtype

    def forward(self, images: Images, targets: Any) -> Terms:
        device = images.pixels.device.type
        with torch.autocast(device, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            terms: Terms = self.criterion(self.model, images, targets)
        return terms

    def counts(self, images: Images, targets: Any, sizes_hw: Sequence[tuple[int, int]]) -> Tensor:
        """[T] what forward's terms are divided by, without running the network: see Criterion.counts."""
        device = images.pixels.device.type
        with torch.autocast(device, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            counts = self.criterion.counts(self.model, images, targets, sizes_hw)
        return torch.stack([_wide(count) for count in counts.values()])


class WindowLoss(NamedTuple):
    """names: of the T terms. On the device: counts, totals [T]: sums over micro-batches and ranks; own [T]: this
    rank's totals; loss: scalar, sum of totals / max(counts, 1); extra: what was asked to be summed over ranks too.
    """

    names: tuple[str, ...]
    counts: Tensor
    totals: Tensor
    own: Tensor
    loss: Tensor
    extra: Tensor


def backward_window(
    step: TrainStep,
    forward: Forward,
    window: Sequence[MicroBatch],
    *,
    extra: Tensor,
    counts_of: CountsOf | None = None,
    seed: tuple[int, ...] = (0,),
    world: int = 1,
    reduce: Reduce = lambda vector: vector,
    backward: Callable[[Tensor], object] = torch.Tensor.backward,
    local: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> WindowLoss:
    """Add to .grad the gradient of sum_t total_t / max(count_t, 1), with the sums over the whole effective batch.

    Args:
        step: whose buffers a counting pass must leave alone; forward: it, or its compiled form.
        window: the micro-batches of this rank. One: counted and descended in one pass. Several: their counts are
            needed before the first backward.
        counts_of: [T] counts of one micro-batch (see engine/counting.py). None: they depend on what is predicted,
            so a pass of the network without gradients comes first, with the same random numbers.
        extra: [E], reduced along with the counts: several ranks agree on something without another message.
        seed: of the step's randomness, with the rank and the global step in it; micro-batch m adds its own number.
        world: ranks. Their gradients are averaged, so each rank's loss is multiplied by it.
        reduce: sum of a vector over ranks. backward: in place of loss.backward(). local: a context in which
            gradients are not yet exchanged between ranks.
    """
    if len(window) == 1:
        return _one_pass(forward, window[0], extra, seed, world, reduce, backward)
    count = _count(step, forward, window, seed) if counts_of is None else _sum(counts_of, window)
    summed = reduce(torch.cat([count, extra]))
    counts, extra = summed[: len(count)], summed[len(count) :]
    own = torch.zeros_like(counts)
    terms: Terms = {}
    for m, (images, targets) in enumerate(window):
        with local() if m + 1 < len(window) else nullcontext():
            _seed(seed, m)
            terms = forward(images, targets)
            totals = _totals(terms)
            backward((totals / counts.clamp(min=1.0)).sum() * world)
            own = own + totals.detach()
    totals = reduce(own)
    return WindowLoss(tuple(terms), counts, totals, own, (totals / counts.clamp(min=1.0)).sum(), extra)


def _one_pass(
    forward: Forward,
    batch: MicroBatch,
    extra: Tensor,
    seed: tuple[int, ...],
    world: int,
    reduce: Reduce,
    backward: Callable[[Tensor], object],
) -> WindowLoss:
    _seed(seed, 0)
    terms = forward(*batch)
    totals = _totals(terms)
    own = totals.detach()
    size = len(own)
    summed = reduce(torch.cat([_counts(terms), own, extra]))
    counts, everywhere, extra = summed[:size], summed[size : 2 * size], summed[2 * size :]
    backward((totals / counts.clamp(min=1.0)).sum() * world)
    return WindowLoss(tuple(terms), counts, everywhere, own, (everywhere / counts.clamp(min=1.0)).sum(), extra)


@torch.no_grad()
def _count(step: TrainStep, forward: Forward, window: Sequence[MicroBatch], seed: tuple[int, ...]) -> Tensor:
    """Counts [T] of all micro-batches of this rank."""
    counts = []
    with kept_buffers(step):
        for m, (images, targets) in enumerate(window):
            _seed(seed, m)
            counts.append(_counts(forward(images, targets)))
    return torch.stack(counts).sum(0)


def _sum(counts_of: CountsOf, window: Sequence[MicroBatch]) -> Tensor:
    return torch.stack([counts_of(images, targets) for images, targets in window]).sum(0)


@contextmanager
def kept_buffers(module: nn.Module) -> Iterator[None]:
    """Buffers (running statistics) are after the block what they were before it."""
    buffers = list(module.buffers())
    before = [b.clone() for b in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)


def _counts(terms: Terms) -> Tensor:
    return torch.stack([_wide(term.count.detach()) for term in terms.values()])


def _totals(terms: Terms) -> Tensor:
    return torch.stack([_wide(term.total) for term in terms.values()])


def _wide(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float64 else value.float()


def _seed(seed: tuple[int, ...], micro: int) -> None:
    """All of torch's generators, as a pure function of where the run is: a resumed run draws the same numbers."""
    torch.manual_seed(int(np.random.SeedSequence([*seed, micro]).generate_state(1, np.uint64)[0]))
