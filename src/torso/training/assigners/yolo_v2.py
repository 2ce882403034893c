"""YOLOv2's rule: the prior of the best shape at the object's cell, on one level (Redmon and Farhadi, 1612.08242)."""

from __future__ import annotations

from torso.bounds import Fraction
from torso.heads.dense import DenseHead
from torso.training.assigners._base import Missing
from torso.training.assigners.yolo_v3 import YOLOv3Assigner


class YOLOv2Assigner(YOLOv3Assigner):
    """YOLOv3's rule for a head of one level. Priors that predict a target with an IoU above `ignore_above` (darknet
    0.6) without being its own are ignored. darknet's pull of all priors to their anchors during the first 12,800 images
    is left out.
    """

    def __init__(self, *, ignore_above: Fraction = 0.6) -> None:
        super().__init__(ignore_above=ignore_above)

    def missing(self, head: DenseHead) -> list[Missing]:
        levels = len(head.priors.per_location)
        several = [Missing(f"is the rule of one level, but this head has {levels}")] if levels != 1 else []
        return [*several, *super().missing(head)]
