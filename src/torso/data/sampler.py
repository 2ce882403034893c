"""The order of the samples: a pure function of (seed, epoch), sharded by rank, able to begin in mid-epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from torso.data.dataset import Key

Window = list[Key]

# These keep the generators of the order and of the scales apart from those of the samples, which stay below.
_ORDER_STREAM = 1 << 63
_SCALE_STREAM = 3 << 62


class EpochSampler(Sampler[Window]):
    """For each optimiser step of this rank, the (epoch, index) of its whole accumulation window.

    A window has batch_size * accumulate entries a rank, micro-batch after micro-batch. The last window of an epoch
    is filled from the epoch's beginning, so that shapes are static and every rank takes the same number of steps.
    Every iteration is the next epoch, unless set_epoch or start_from says otherwise. len() is always the whole epoch's.
    scales: each micro-batch is shown at one of these factors of its size, drawn for all ranks alike; where that is
    not 1, the entries are (epoch, index, scale).
    """

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        accumulate: int = 1,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        shuffle: bool = True,
        scales: Sequence[float] = (1.0,),
    ) -> None:
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales {tuple(scales)} came; one or more factors above 0 were wanted")
        if min(size, batch_size, accumulate, world) < 1 or not 0 <= rank < world:
            raise ValueError(
                f"size {size}, batch_size {batch_size}, accumulate {accumulate}, rank {rank} of {world} came; "
                "sizes of at least 1 and 0 <= rank < world were wanted"
            )
        self.size, self.batch_size, self.accumulate = size, batch_size, accumulate
        self.seed, self.rank, self.world, self.shuffle = seed, rank, world, shuffle
        self.scales = tuple(scales)
        self.epoch, self.first_window = 0, 0

    def __len__(self) -> int:
        return -(-self.size // (self.batch_size * self.accumulate * self.world))

    def set_epoch(self, epoch: int) -> None:
        """The next iter() is this epoch; where start_from already named it, its first window is kept."""
        if epoch != self.epoch:
            self.epoch, self.first_window = epoch, 0

    def start_from(self, epoch: int, first_window: int) -> None:
        """The next iter() begins at this window of this epoch (0 <= first_window <= len); later epochs are whole."""
        if epoch < 0 or not 0 <= first_window <= len(self):
            raise ValueError(
                f"epoch {epoch}, window {first_window} came; epoch >= 0 and a window of 0..{len(self)} were wanted: "
                "resume with the data set and batch size that the checkpoint was made with"
            )
        self.epoch, self.first_window = epoch, first_window

    def __iter__(self) -> Iterator[Window]:
        # All of this runs at the first next(): a DataLoader with workers makes two iterators and uses one.
        epoch, first = self.epoch, self.first_window
        self.epoch, self.first_window = epoch + 1, 0
        order = np.arange(self.size)
        if self.shuffle:
            key = np.array([self.seed, _ORDER_STREAM | epoch], dtype=np.uint64)
            order = np.random.Generator(np.random.Philox(key=key)).permutation(self.size)
        filled = np.resize(order, (len(self), self.accumulate, self.world, self.batch_size))
        scales = self._scales(epoch)
        for number in range(first, len(self)):
            yield [
                (epoch, int(index)) if scale == 1 else (epoch, int(index), scale)
                for micro, scale in zip(filled[number, :, self.rank], scales[number], strict=True)
                for index in micro
            ]

    def _scales(self, epoch: int) -> list[list[float]]:
        """Of every micro-batch of every window of an epoch."""
        shape = len(self), self.accumulate
        if len(self.scales) == 1:
            return np.full(shape, self.scales[0]).tolist()
        key = np.array([self.seed, _SCALE_STREAM | epoch], dtype=np.uint64)
        drawn = np.random.Generator(np.random.Philox(key=key)).integers(len(self.scales), size=shape)
        scales: list[list[float]] = np.array(self.scales)[drawn].tolist()
        return scales


class EvalSampler(Sampler[Window]):
    """Every sample once, in order, over all ranks: rank r takes r, r + world, ...; nothing is padded or repeated.

    Ranks may differ by one batch, so do not reduce inside the loop.
    """

    def __init__(self, *, size: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        if min(batch_size, world) < 1 or not 0 <= rank < world:
            raise ValueError(
                f"batch_size {batch_size}, rank {rank} of {world} came; "
                "a batch of at least 1 and 0 <= rank < world were wanted"
            )
        self.batch_size = batch_size
        self.indices = range(rank, size, world)

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[Window]:
        for start in range(0, len(self.indices), self.batch_size):
            yield [(0, index) for index in self.indices[start : start + self.batch_size]]
