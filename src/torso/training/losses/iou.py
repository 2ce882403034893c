"""Losses of decoded boxes by their overlap: IoU, and generalised, distance and complete IoU."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from torso.geometry.boxes import aligned_overlap
from torso.training.losses._base import BoxLoss

Form = Literal["log", "linear", "square"]


class IoULoss(BoxLoss):
    """IoU loss of decoded boxes: -log IoU (UnitBox, arXiv 1608.01471; the FCOS paper) or 1 - IoU.

    form: "log" (finite: IoU is clamped at 1e-6), "linear" 1 - IoU, or "square" 1 - IoU^2 (YOLOX).
    """

    space: Literal["codes", "boxes"] = "boxes"

    def __init__(self, *, form: Form = "log") -> None:
        self.form = form

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        iou = aligned_overlap(prediction, target, "iou")
        if self.form == "log":
            return -iou.clamp(min=1e-6).log()
        return 1 - (iou if self.form == "linear" else iou.square())


class GIoULoss(BoxLoss):
    """Generalised IoU loss: 1 - GIoU of decoded boxes (Rezatofighi et al. 2019, arXiv 1902.09630).

    1 - GIoU, in 0..2; degenerate predictions stay finite.
    """

    space: Literal["codes", "boxes"] = "boxes"

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 1 - aligned_overlap(prediction, target, "giou")


class DIoULoss(BoxLoss):
    """Distance IoU loss: 1 - DIoU of decoded boxes (Zheng et al. 2020, arXiv 1911.08287).

    1 - DIoU, in 0..2; degenerate predictions stay finite.
    """

    space: Literal["codes", "boxes"] = "boxes"

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 1 - aligned_overlap(prediction, target, "diou")


class CIoULoss(BoxLoss):
    """Complete IoU loss: 1 - CIoU of decoded boxes (Zheng et al. 2020, arXiv 1911.08287).

    1 - CIoU, in 0..2 and above where the aspect differs; degenerate predictions stay finite.
    """

    space: Literal["codes", "boxes"] = "boxes"

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 1 - aligned_overlap(prediction, target, "ciou")
