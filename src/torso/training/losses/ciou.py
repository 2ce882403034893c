"""Complete IoU loss: 1 - CIoU of decoded boxes (Zheng et al. 2020, arXiv 1911.08287)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from torso.geometry.boxes import aligned_overlap
from torso.training.losses._base import BoxLoss


class CIoULoss(BoxLoss):
    """1 - CIoU, in 0..2 and above where the aspect differs; degenerate predictions stay finite."""

    space: Literal["codes", "boxes"] = "boxes"

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 1 - aligned_overlap(prediction, target, "ciou")
