"""YOLOv2's rule: the prior of the best shape at the object's cell, on one level (Redmon and Farhadi, 1612.08242)."""

from __future__ import annotations

from torso.heads.dense import Dense as DenseHead
from torso.parts import PartError
from torso.training.assigners.yolo_v3 import YOLOv3


class YOLOv2(YOLOv3):
    """YOLOv3's rule for a head of one level. Priors that predict a truth with an IoU above `ignore_above` (darknet 0.6)
    without being its own are ignored. darknet's pull of all priors to their anchors during the first 12,800 pictures is
    left out.
    """

    def __init__(self, *, ignore_above: float = 0.6) -> None:
        super().__init__(ignore_above=ignore_above)

    def check(self, head: DenseHead) -> None:
        super().check(head)
        levels = len(head.priors.per_place)
        if levels != 1:
            raise PartError(
                f"YOLOv2 is the rule of one level, but this head has {levels}: choose --assigner yolo_v3, which "
                "compares anchors over all levels"
            )
