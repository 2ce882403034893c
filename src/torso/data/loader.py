"""Loaders: windows of micro-batches for training, plain batches for evaluation; collated in the workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from torso.data.collate import Batch, collate
from torso.data.dataset import DetectionDataset
from torso.data.sampler import EpochSampler, EvalSampler


def train_loader(
    dataset: DetectionDataset, sampler: EpochSampler, *, workers: int = 0, divisor: int = 32
) -> DataLoader[list[Batch]]:
    """Yields one window a step: a list of `sampler.accumulate` micro-batches. The same whatever `workers` is."""
    if sampler.size != len(dataset):
        raise ValueError(
            f"a sampler of {sampler.size} samples came for a data set of {len(dataset)}; make it with size=len(dataset)"
        )
    return window_loader(dataset, sampler, partial(collate, divisor=divisor), workers=workers)


def eval_loader(
    dataset: DetectionDataset, batch_size: int, *, workers: int = 0, rank: int = 0, world: int = 1, divisor: int = 32
) -> DataLoader[Batch]:
    """Yields Batch, every image of the data set once over all ranks, in order."""
    sampler = EvalSampler(size=len(dataset), batch_size=batch_size, rank=rank, world=world)
    return _loader(dataset, sampler, partial(collate, divisor=divisor), workers)


def window_loader(
    dataset: Dataset[Any], sampler: EpochSampler, collated: Callable[[Sequence[Any]], Any], *, workers: int = 0
) -> DataLoader[list[Any]]:
    """The same for samples of any kind: `collated` makes a micro-batch of items, in the workers.

    dataset: answers to the sampler's keys (epoch, index[, scale]).
    """
    collate_fn = partial(_windows, batch_size=sampler.batch_size, collated=collated)
    return _loader(dataset, sampler, collate_fn, workers)


def _windows(items: Sequence[Any], batch_size: int, collated: Callable[[Sequence[Any]], Any]) -> list[Any]:
    """Micro-batches of one window, batch_size items each."""
    return [collated(items[start : start + batch_size]) for start in range(0, len(items), batch_size)]


def plain_message(error: BaseException) -> str:
    """The one sentence of an error, also of one that crossed from a worker with that worker's traceback around it."""
    return str(error).strip().splitlines()[-1].removeprefix(f"{type(error).__name__}: ") if str(error) else repr(error)


def _loader(dataset: Dataset[Any], sampler: Any, collate_fn: Any, workers: int) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate_fn,
        pin_memory=torch.cuda.is_available(),
        # The epoch travels with each index, so a worker that lives on has nothing stale.
        persistent_workers=workers > 0,
        # Of its own: making an iterator must not advance torch's global generator, or dropout differs on resume.
        generator=torch.Generator(),
    )
