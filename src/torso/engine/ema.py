"""Exponential moving average of weights and buffers, the copy that is evaluated and published."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_RAMP_STEPS = 2000.0


class EMA:
    """average = d * average + (1 - d) * weights, with d = decay * (1 - exp(-(step + 1) / ramp)).

    The ramp lets the average follow a young model at once. Integer buffers are copied. Everything happens on the
    device: torch's AveragedModel asks its counter on the host at every step. decay in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float, ramp: float = _RAMP_STEPS) -> None:
        if not 0 < decay < 1 or ramp <= 0:
            raise ValueError(f"an EMA wants a decay between 0 and 1 and a positive ramp; {decay} and {ramp} came")
        self.decay, self.ramp = decay, ramp
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def decay_at(self, step: int) -> float:
        """The decay of the update after optimiser step `step` (from 0): a pure function, nothing to be resumed."""
        return self.decay * (1 - math.exp(-(step + 1) / self.ramp))

    @torch.no_grad()
    def update(self, model: nn.Module, step: int, skipped: Tensor) -> None:
        """Move towards the weights of now; skipped: scalar on the device, 1 where the step did not happen."""
        weight = (1 - skipped) * (1 - self.decay_at(step))
        now = model.state_dict()
        floats = [name for name, value in self.average.items() if value.is_floating_point()]
        averages = [self.average[name] for name in floats]
        moves = list(torch._foreach_sub([now[name] for name in floats], averages))
        torch._foreach_mul_(moves, weight)
        torch._foreach_add_(averages, moves)
        for name, value in self.average.items():
            if not value.is_floating_point():
                value.copy_(now[name])

    def to_like(self, model: nn.Module) -> None:
        """Move the average to where the model is, in its memory layout."""
        now = model.state_dict()
        self.average = {name: torch.empty_like(now[name]).copy_(value) for name, value in self.average.items()}

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """The model holds the average inside the block, its own weights again after it, bit for bit."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.average)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Tensor]:
        """The average by the model's own keys."""
        return dict(self.average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take another average of the same keys and shapes."""
        if state.keys() != self.average.keys():
            missing = sorted(self.average.keys() ^ state.keys())
            raise ValueError(f"the checkpoint's averaged weights belong to another model; keys differ: {missing[:5]}")
        for name, value in self.average.items():
            value.copy_(state[name])
