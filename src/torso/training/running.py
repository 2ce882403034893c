"""Running statistics of norms, kept from a step that will not happen."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningStatistics:
    """Buffers of the BatchNorms that are learning now; a forward pass that overflows must not stay in them."""

    def __init__(self, model: nn.Module) -> None:
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.training]
        self.buffers = [b for norm in norms for b in norm.buffers()]
        self._before: list[Tensor] = []

    @torch.no_grad()
    def remember(self) -> None:
        """Before the forward pass."""
        self._before = [b.clone() for b in self.buffers]

    @torch.no_grad()
    def restore_where(self, skipped: Tensor) -> None:
        """After it; skipped: scalar on the device, 1 where the step does not happen."""
        for buffer, before in zip(self.buffers, self._before, strict=True):
            buffer.copy_(torch.where(skipped > 0, before, buffer))
