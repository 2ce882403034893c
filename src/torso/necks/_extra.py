"""Levels coarser than the backbone's: what P6 and P7 are made of."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from torso.necks._move import Padding, max_pool

ExtraKind = Literal["conv_c5", "conv_p5", "pool"]


class ExtraLevels(nn.Module):
    """The levels coarser than the backbone's: (C5, P5) -> [P6, P7, ...] up to stride `coarsest`."""

    def __init__(self, *, last_c: int, channels: int, stride: int, coarsest: int, kind: ExtraKind) -> None:
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


class PooledLevels(nn.Module):
    """The last map -> [P6, P7, ...] up to stride `coarsest`: P6 = pool(project(C5)), P7 = pool(P6).

    overlap: windows are 2 + overlap wide, at stride 2.
    """

    def __init__(
        self, *, project: nn.Module, stride: int, coarsest: int, overlap: int, padding: Padding = "same"
    ) -> None:
        super().__init__()
        self.strides: list[int] = []
        while stride * 2 <= coarsest:
            stride *= 2
            self.strides.append(stride)
        self.project = project if self.strides else nn.Identity()
        self.kernel, self.padding = 2 + overlap, padding

    def forward(self, last: Tensor) -> list[Tensor]:
        if not self.strides:
            return []
        x, out = self.project(last), []
        for _ in self.strides:
            x = max_pool(x, 2, self.kernel, self.padding)
            out.append(x)
        return out
