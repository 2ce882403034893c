"""One gate a channel, from its mean and its maximum over places (the channel half of CBAM, 1807.06521)."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from torso.blocks._base import Block, Place
from torso.bounds import Count


class ChannelAttention(Block):
    """x * sigmoid(mlp(mean of x) + mlp(maximum of x)), one mlp C -> C / reduction -> C for both, without biases.

    reduction: divides the width between the two layers; at least one channel is left.
    """

    place: ClassVar[Place] = "all"

    def __init__(self, in_channels: int, *, reduction: Count = 16) -> None:
        super().__init__()
        self.out_channels = in_channels
        hidden = max(1, in_channels // reduction)
        self.squeeze = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, in_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, top = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
        gate = (self._mlp(mean) + self._mlp(top)).sigmoid()
        return x * gate

    def _mlp(self, pooled: Tensor) -> Tensor:
        out: Tensor = self.excite(F.relu(self.squeeze(pooled)))
        return out
