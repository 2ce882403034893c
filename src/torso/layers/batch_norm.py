"""BatchNorm (Ioffe and Szegedy 2015, arXiv 1502.03167) that says what to do where a channel has a single value."""

from __future__ import annotations

from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """torch's; ValueError, with the remedies, for a map of one place and one image in training.

    One value has no variance. torch refuses it too, in words that speak of no map; the coarsest levels of a small
    image come to it first.
    """

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        if self.training and b * h * w == 1:
            raise ValueError(
                f"BatchNorm of {c} channels came to a map of {h} x {w} of one image in training, which is one value "
                "a channel; it wants two or more. Train with a batch size of 2 or more, with larger images, or "
                "without the coarsest level, or choose norm=gn where the part has it; in eval mode one value will do"
            )
        return super().forward(x)
