"""M2Det's thinned U-shape: down by strided convolutions, up again by sums, every scale given out (arXiv 1811.04533)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from torso.layers.conv import Activation, ConvNormAct, Norm
from torso.layers.resample import upsample_nearest


class ThinnedU(nn.Module):
    """[B, C, h, w] -> `scales` maps of `width` channels, fine to coarse, the first of the input's size.

    last "valid": the coarsest by an unpadded convolution of stride 1, which wants a map of 3x3 at least.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        scales: int,
        last: Literal["stride", "valid"],
        norm: Norm,
        activation: Activation,
    ) -> None:
        super().__init__()

        def conv(a: int, kernel: int, stride: int = 1) -> ConvNormAct:
            return ConvNormAct(a, width, kernel=kernel, stride=stride, norm=norm, activation=activation)

        comes = [in_channels] + [width] * (scales - 1)
        self.down = nn.ModuleList(conv(c, 3, 2) for c in comes[:-1])
        if last == "valid":
            conv_of_last = self.down[-1].conv
            assert isinstance(conv_of_last, nn.Conv2d)
            conv_of_last.stride, conv_of_last.padding = (1, 1), (0, 0)
        self.top = conv(width, 1)
        self.lateral = nn.ModuleList(conv(c, 3) for c in comes[:-1])
        self.smooth = nn.ModuleList(conv(width, 1) for _ in comes[:-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        e = [x]
        for down in self.down:
            e.append(down(e[-1]))
        d = self.top(e[-1])
        out = [d]
        for i in range(len(self.lateral) - 1, -1, -1):
            lateral = self.lateral[i](e[i])
            d = lateral + upsample_nearest(d, lateral.shape[-2:])
            out.append(self.smooth[i](d))
        return out[::-1]
