"""Depthwise separable convolution: one filter a channel, then a 1x1 over channels (Xception, arXiv 1610.02357)."""

from __future__ import annotations

from torch import Tensor, nn

from torso.layers.conv import AlignedConv2d


class SeparableConv2d(nn.Module):
    """[B, C, h, w] -> [B, C', h, w]: depthwise 3x3 without bias, pointwise 1x1; no norm or activation between them."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 3, bias: bool = True) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels, bias=False
        )
        self.pointwise = AlignedConv2d(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise(self.depthwise(x))
        return y
