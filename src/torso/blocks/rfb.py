"""Receptive field block: branches whose kernel and dilation grow together, as in the eye's fields (1711.07767)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso.blocks._base import Block
from torso.blocks._unit import dilated, unit
from torso.bounds import Count


class RFB(Block):
    """relu(scale * 1x1(three branches) + 1x1(x)); the branches see 2v + 1, 2v + 5 and 4v + 7 places, v = visual.

    Args:
        channels: width of what comes out; None keeps the incoming width.
        visual: dilations of the branches' last convolutions are v, v + 1, 2v + 1: RFBNet's 2 gives 2, 3, 5.
        scale: of the branches before the shortcut is added. The paper's code says 0.1 and passes 1.

    Stride 1 only: a neck keeps the size of its maps. Form of the authors' last code (three branches of in/8 steps).
    """

    def __init__(
        self, in_channels: int, *, channels: Count | None = None, visual: Count = 2, scale: float = 1.0
    ) -> None:
        super().__init__()
        if in_channels < 16:  # its branches have an eighth
            raise ValueError(f"RFB: expected at least 16 incoming channels, got {in_channels}")
        self.out_channels = out = channels or in_channels
        self.scale = scale
        m = in_channels // 8
        wide = m // 2 * 3
        self.branches = nn.ModuleList(
            [
                nn.Sequential(unit(in_channels, 2 * m, 1), dilated(2 * m, visual)),
                nn.Sequential(unit(in_channels, m, 1), unit(m, 2 * m, 3), dilated(2 * m, visual + 1)),
                nn.Sequential(
                    unit(in_channels, m, 1), unit(m, wide, 3), unit(wide, 2 * m, 3), dilated(2 * m, 2 * visual + 1)
                ),
            ]
        )
        self.join = unit(6 * m, out, 1, activation="none")
        self.shortcut = unit(in_channels, out, 1, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([branch(x) for branch in self.branches], dim=1)
        return F.relu(self.scale * self.join(seen) + self.shortcut(x))
