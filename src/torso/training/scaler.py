"""Loss scaling for 16-bit floats (arXiv 1710.03740): halved on overflow, doubled after 2000 good steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FIRST, _GROWTH, _BACKOFF, _INTERVAL = 2.0**16, 2.0, 0.5, 2000


class LossScale(nn.Module):
    """scale: what the loss is multiplied by; streak: good steps since it last changed."""

    scale: Tensor
    streak: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(_FIRST))
        self.register_buffer("streak", torch.tensor(0, dtype=torch.int32))

    def update(self, skipped: Tensor) -> None:
        """skipped: scalar on the device, 1 where the step overflowed."""
        torch._amp_update_scale_(self.scale, self.streak, skipped, _GROWTH, _BACKOFF, _INTERVAL)
