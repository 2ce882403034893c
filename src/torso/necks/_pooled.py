"""Levels coarser than the backbone's, made by pooling alone (NAS-FPN, EfficientDet)."""

from __future__ import annotations

from torch import Tensor, nn

from torso.necks._move import Padding, max_pool


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
