"""Non-local block: every place answers with a weighted mean over all places, added to what it was (1711.07971)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torso.blocks._base import Block
from torso.bounds import Count
from torso.layers.attention import attend
from torso.layers.conv import Norm, make_norm


class NonLocal(Block):
    """norm(W_z(y)) + x, where y_i = sum over j of f(x_i, x_j) g(x_j) / (sum of f), and g is a 1x1 convolution.

    Args:
        form: "embedded_gaussian": f = exp(theta(x_i) . phi(x_j)), a softmax over j; "gaussian": the same of x itself;
            "dot": f = theta(x_i) . phi(x_j), divided by the number of places instead.
        reduction: divides the width of theta, phi and g.
        subsample: phi and g are max-pooled by 2, a quarter of the cost (the paper's trick).
        norm: behind W_z. Its scale (without a norm, W_z itself) starts at 0, so that the block starts as x.

    The cost is the square of the number of places (not of "dot"), so its own place is the coarsest level.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        form: Literal["embedded_gaussian", "gaussian", "dot"] = "embedded_gaussian",
        reduction: Count = 2,
        subsample: bool = False,
        norm: Norm = "bn",
    ) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.form, self.subsample = form, subsample
        d = max(1, in_channels // reduction)
        self.theta = nn.Identity() if form == "gaussian" else nn.Conv2d(in_channels, d, 1)
        self.phi = nn.Identity() if form == "gaussian" else nn.Conv2d(in_channels, d, 1)
        self.g = nn.Conv2d(in_channels, d, 1)
        self.w_z = nn.Conv2d(d, in_channels, 1, bias=norm == "none")
        self.norm = make_norm(norm, in_channels)
        last = self.w_z if norm == "none" else self.norm
        for p in last.parameters():
            nn.init.zeros_(p)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.theta(x).flatten(2).mT  # [B, hw, d]
        phi, g = (self._sources(m).flatten(2).mT for m in (self.phi(x), self.g(x)))  # [B, places, d]
        if self.form == "dot":
            y = torch.bmm(theta, torch.bmm(phi.mT, g)) / phi.shape[1]  # in this order it costs hw, not its square
        else:
            y = attend(theta, phi, g, similarity="dot", weights="softmax")
        z: Tensor = self.norm(self.w_z(y.mT.reshape(x.shape[0], -1, *x.shape[2:])))
        return z + x

    def _sources(self, m: Tensor) -> Tensor:
        return F.max_pool2d(m, 2, ceil_mode=True) if self.subsample else m
