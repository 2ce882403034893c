"""One point at every location, as a box of side stride (FCOS, arXiv 1904.01355; Objects as Points, 1904.07850)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torso.geometry.priors._base import PriorGenerator, StrideFrom, grid_priors
from torso.types import Priors


class Points(PriorGenerator):
    """The centre of location (x, y) is ((x + offset) * stride, (y + offset) * stride).

    Args:
        offset: 0.5 is the paper's half stride (FCOS writes floor(s / 2) + x * s); torchvision's FCOS and YOLOX use 0.
        stride_from: "feature" uses the level's nominal stride; "image" sets the points apart by the padded image
            size // map size, which differs where a map was rounded up (torchvision). Their boxes keep the nominal one.
    """

    def __init__(
        self,
        strides_yx: Sequence[tuple[int, int]],
        *,
        offset: float = 0.5,
        stride_from: StrideFrom = "feature",
    ) -> None:
        super().__init__([[(float(s[1]), float(s[0]))] for s in strides_yx])
        self.strides_yx = [(s[0], s[1]) for s in strides_yx]
        self.offset, self.stride_from = offset, stride_from

    def forward(self, sizes_hw: Sequence[tuple[int, int]], image_hw: tuple[int, int]) -> Priors:
        levels = []
        for wh, size_hw, nominal in zip(self.shapes(), sizes_hw, self.strides_yx, strict=True):
            step = nominal
            if self.stride_from == "image":
                step = (image_hw[0] // size_hw[0], image_hw[1] // size_hw[1])
            levels.append(grid_priors(wh, size_hw, step, self.offset)[:2])
        centers, sizes = (torch.cat(x) for x in zip(*levels, strict=True))
        return Priors(centers, sizes, sizes, tuple((h, w, 1) for h, w in sizes_hw), points=True)
