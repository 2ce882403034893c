"""Squeeze and excitation: one gate a channel, from its mean over places (1709.01507)."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from torso.blocks._base import Block, Place
from torso.bounds import Count


class SE(Block):
    """x * sigmoid(fc(relu(fc(mean of x)))), C -> C / reduction -> C, with biases.

    reduction: divides the width between the two layers; at least one channel is left.
    """

    place: ClassVar[Place] = "all"

    def __init__(self, in_channels: int, *, reduction: Count = 16) -> None:
        super().__init__()
        self.out_channels = in_channels
        hidden = max(1, in_channels // reduction)
        self.squeeze = nn.Conv2d(in_channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))).sigmoid()
        return x * gate
