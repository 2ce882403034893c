"""The receptive field block of shallow maps: smaller kernels, one side at a time (RFB-s, 1711.07767)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso.blocks._base import Block, Place
from torso.blocks._unit import dilated, unit
from torso.bounds import Count


class RFBS(Block):
    """relu(scale * 1x1(four branches) + 1x1(x)); the branches see 3x3, 9x7, 7x9 and 13x13 places (height x width).

    Args:
        channels: width of what comes out; None keeps the incoming width.
        scale: of the branches before the shortcut is added.

    RFBNet puts it on conv4_3, its finest level; elsewhere the same holds for the finest level that feeds a head.
    """

    place: ClassVar[Place] = "finest"

    def __init__(self, in_channels: int, *, channels: Count | None = None, scale: float = 1.0) -> None:
        super().__init__()
        if in_channels < 16:
            raise ValueError(
                f"RFBS wants at least 16 incoming channels (its branches have a quarter, and less); {in_channels} came"
            )
        self.out_channels = out = channels or in_channels
        self.scale = scale
        m = in_channels // 4
        wide = m // 4 * 3
        self.branches = nn.ModuleList(
            [
                nn.Sequential(unit(in_channels, m, 1), dilated(m, 1)),
                nn.Sequential(unit(in_channels, m, 1), unit(m, m, (3, 1)), dilated(m, 3)),
                nn.Sequential(unit(in_channels, m, 1), unit(m, m, (1, 3)), dilated(m, 3)),
                nn.Sequential(
                    unit(in_channels, m // 2, 1),
                    unit(m // 2, wide, (1, 3)),
                    unit(wide, m, (3, 1)),
                    dilated(m, 5),
                ),
            ]
        )
        self.join = unit(4 * m, out, 1, activation="none")
        self.shortcut = unit(in_channels, out, 1, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([branch(x) for branch in self.branches], dim=1)
        return F.relu(self.scale * self.join(seen) + self.shortcut(x))
