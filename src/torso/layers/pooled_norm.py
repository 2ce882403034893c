"""BatchNorm of globally pooled maps, where a batch of one image leaves one value a channel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PooledBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d that uses its stored statistics, unchanged, where there is one value a channel.

    One value has no variance: torch refuses it in training. Feeding it spread over the map would be accepted, and
    would shrink the stored variance to nothing, step by step.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)
