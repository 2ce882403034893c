"""Generalised IoU loss: 1 - GIoU of decoded boxes (Rezatofighi et al. 2019, arXiv 1902.09630)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from torso.geometry.boxes import aligned_overlap
from torso.training.losses._base import BoxLoss


class GIoULoss(BoxLoss):
    """1 - GIoU, in 0..2; degenerate predictions stay finite."""

    space: Literal["codes", "boxes"] = "boxes"

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 1 - aligned_overlap(prediction, target, "giou")
