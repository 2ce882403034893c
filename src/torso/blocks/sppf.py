"""SPP made fast: three chained 5x5 max-pools are the pools of 5, 9 and 13 (YOLOv5, https://doi.org/10.5281/zenodo.3908559)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.blocks._base import Block
from torso.bounds import Count, Odd
from torso.layers.conv import Activation, ConvNormAct, Norm


class SPPF(Block):
    """1x1 to half the incoming width, the concatenation [x, pool, pool of pool, ...], 1x1.

    Args:
        channels: width of what comes out; None keeps the incoming width.
        kernel: of each max-pool, odd; n of them see n * (kernel - 1) + 1 places.
        pools: how many are chained.
        norm, activation: of both convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: Count | None = None,
        kernel: Odd = 5,
        pools: Count = 3,
        norm: Norm = "bn",
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        if in_channels < 2:
            raise ValueError(f"SPPF: expected at least two incoming channels, got {in_channels}")
        self.kernel, self.chained = kernel, pools
        self.out_channels = channels or in_channels
        hidden = in_channels // 2
        self.reduce = ConvNormAct(in_channels, hidden, kernel=1, norm=norm, activation=activation)
        self.project = ConvNormAct((pools + 1) * hidden, self.out_channels, kernel=1, norm=norm, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat(self.pools(self.reduce(x)), dim=1))  # type: ignore[no-any-return]

    def pools(self, x: Tensor) -> list[Tensor]:
        """What is concatenated: x first, the widest pool last."""
        out = [x]
        for _ in range(self.chained):
            out.append(F.max_pool2d(out[-1], self.kernel, stride=1, padding=self.kernel // 2))
        return out
