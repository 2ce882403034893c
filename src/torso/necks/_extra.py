"""Levels coarser than the backbone's: what P6 and P7 are made of."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

ExtraKind = Literal["conv_c5", "conv_p5", "pool"]


class ExtraLevels(nn.Module):
    """The levels coarser than the backbone's: (C5, P5) -> [P6, P7, ...] up to stride `coarsest`."""

    def __init__(
        self, *, last_c: int, channels: int, stride: int, coarsest: int, kind: ExtraKind
    ) -> None:
        super().__init__()
        self.strides: list[int] = []
        while stride * 2 <= coarsest:
            stride *= 2
            self.strides.append(stride)
        self.kind = kind
        first = last_c if kind == "conv_c5" else channels
        self.convs = nn.ModuleList(
            nn.Conv2d(first if i == 0 else channels, channels, 3, stride=2, padding=1)
            for i in range(0 if kind == "pool" else len(self.strides))
        )

    def forward(self, c5: Tensor, p5: Tensor) -> list[Tensor]:
        if self.kind == "pool":
            out, x = [], p5
            for _ in self.strides:
                x = F.max_pool2d(x, kernel_size=1, stride=2)
                out.append(x)
            return out
        out, x = [], c5 if self.kind == "conv_c5" else p5
        for i, conv in enumerate(self.convs):
            x = conv(x if i == 0 else F.relu(x))
            out.append(x)
        return out
