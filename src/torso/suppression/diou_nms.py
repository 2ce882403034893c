"""DIoU-NMS (1911.08287): suppression that spares neighbours with centres apart; YOLOv4's exponent (2004.10934)."""

from __future__ import annotations

from torso.bounds import BelowOne, Count, Positive
from torso.geometry.overlaps import BoxOverlap
from torso.suppression.nms import NMS


class DIoUNMS(NMS):
    """Greedy suppression by IoU - (d^2 / c^2)^beta: d between the centres, c the diagonal of the hull of both.

    beta: 1 in the paper, 0.6 in YOLOv4 (greedynms): the smaller, the more a distance counts. A threshold below 0 is
    meant, too: the measure lies in -1..1. All else as in NMS, whose overlap="diou" is this with beta 1.
    """

    def __init__(
        self,
        *,
        iou_threshold: float = 0.5,
        beta: Positive = 1.0,
        inclusive: bool = False,
        class_agnostic: bool = False,
        max_detections: Count = 100,
        max_per_class: Count | None = None,
        pre_nms_top: Count | None = None,
        pre_nms_top_per_class: Count | None = None,
        score_threshold: BelowOne = 0.0,
    ) -> None:
        super().__init__(
            iou_threshold=iou_threshold,
            inclusive=inclusive,
            overlap=BoxOverlap(kind="diou", beta=beta),
            class_agnostic=class_agnostic,
            max_detections=max_detections,
            max_per_class=max_per_class,
            pre_nms_top=pre_nms_top,
            pre_nms_top_per_class=pre_nms_top_per_class,
            score_threshold=score_threshold,
        )
