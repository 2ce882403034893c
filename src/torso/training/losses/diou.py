"""Distance IoU loss: 1 - DIoU of decoded boxes (Zheng et al. 2020, arXiv 1911.08287)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from torso.geometry.boxes import aligned_overlap
from torso.training.losses._base import BoxLoss


class DIoULoss(BoxLoss):
    """1 - DIoU, in 0..2; degenerate predictions stay finite."""

    space: Literal["codes", "boxes"] = "boxes"

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 1 - aligned_overlap(prediction, target, "diou")
