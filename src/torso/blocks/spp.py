"""Spatial pyramid pooling as the YOLOs use it: maxima over 5, 9, 13 places beside the map (1406.4729; 2004.10934)."""

from __future__ import annotations

import itertools
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import MinLen
from torch import Tensor, nn

from torso.blocks._base import Block
from torso.bounds import Count, Odd
from torso.layers.conv import Activation, ConvNormAct, Norm


class SPP(Block):
    """Convolutions, the concatenation [pool 13, pool 9, pool 5, x] (darknet's order), convolutions.

    Args:
        channels: width of what comes out and of the pooled map; None keeps the incoming width.
        convs: on each side of the pools, an odd number: a 1x1, then pairs of a 3x3 to twice the width and a 1x1 back.
            YOLOv4 has 3, a bare SPP has 1.
        kernels: of the max-pools (stride 1, same size), fine to coarse, odd.
        norm, activation: of every convolution.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: Count | None = 512,
        convs: Odd = 3,
        kernels: Annotated[tuple[Odd, ...], MinLen(1)] = (5, 9, 13),
        norm: Norm = "bn",
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        self.kernels = kernels
        self.out_channels = width = channels or in_channels

        def stack(incoming: int) -> nn.Sequential:
            widths = [incoming, *([width, 2 * width] * (convs // 2)), width]
            return nn.Sequential(
                *(
                    ConvNormAct(a, b, kernel=1 if i % 2 == 0 else 3, norm=norm, activation=activation)
                    for i, (a, b) in enumerate(itertools.pairwise(widths))
                )
            )

        self.before = stack(in_channels)
        self.after = stack((len(kernels) + 1) * width)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.cat(self.pools(self.before(x)), dim=1))  # type: ignore[no-any-return]

    def pools(self, x: Tensor) -> list[Tensor]:
        """What is concatenated: the widest pool first, x last."""
        return [*(F.max_pool2d(x, k, stride=1, padding=k // 2) for k in reversed(self.kernels)), x]
