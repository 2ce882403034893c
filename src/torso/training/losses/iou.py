"""IoU loss of decoded boxes: -log IoU (UnitBox, arXiv 1608.01471; the FCOS paper) or 1 - IoU."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from torso.geometry.boxes import aligned_overlap
from torso.training.losses._base import BoxLoss

Form = Literal["log", "linear", "square"]


class IoULoss(BoxLoss):
    """form: "log" (finite: IoU is clamped at 1e-6), "linear" 1 - IoU, or "square" 1 - IoU^2 (YOLOX)."""

    space: Literal["codes", "boxes"] = "boxes"

    def __init__(self, *, form: Form = "log") -> None:
        self.form = form

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        iou = aligned_overlap(prediction, target, "iou")
        if self.form == "log":
            return -iou.clamp(min=1e-6).log()
        return 1 - (iou if self.form == "linear" else iou.square())
