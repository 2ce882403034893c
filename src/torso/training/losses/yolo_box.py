"""YOLOv2's and v3's box loss on the codes of the yolo coder (arXiv 1612.08242, 1804.02767; darknet's layers)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.bounds import NotNegative
from torso.training.losses._base import BoxLoss

Center = Literal["entropy", "squared"]


class YOLOBoxLoss(BoxLoss):
    """Centre, as shares of the cell, plus size_weight / 2 times the squared error of the log sizes.

    Args:
        center: "entropy", whose gradient is the difference of shares, as darknet's YOLOv3 layer passes back (the binary
            cross entropy less its least value), or "squared", half the squared difference of shares (YOLOv2).
        size_weight: factor of the size's part; mmdetection's YOLOv3 has twice that of darknet.
    """

    space: Literal["codes", "boxes"] = "codes"

    def __init__(self, *, center: Center = "entropy", size_weight: NotNegative = 1.0) -> None:
        self.center, self.size_weight = center, size_weight

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        x = prediction if prediction.dtype == torch.float64 else prediction.float()
        predicted, wanted = x[..., :2], target[..., :2].to(x)
        share = wanted.sigmoid()
        if self.center == "entropy":
            center = F.softplus(-predicted) + (1 - share) * predicted - F.softplus(-wanted) - (1 - share) * wanted
        else:
            center = 0.5 * (predicted.sigmoid() - share).square()
        size = 0.5 * (x[..., 2:] - target[..., 2:]).square()
        return center.sum(-1) + self.size_weight * size.sum(-1)
