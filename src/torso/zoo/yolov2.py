"""YOLOv2: Darknet-19 with a passthrough, five anchors a cell (Redmon, Farhadi 2016, YOLO9000, arXiv 1612.08242)."""

from __future__ import annotations

from torso.backbones.darknet19 import Darknet19
from torso.heads.yolov2 import YOLOv2Head
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.passthrough import Passthrough
from torso.parts import Part, part
from torso.suppression.nms import NMS


def yolov2(*, num_classes: int = 80) -> Part[Detector]:
    """Published: AP 21.6 (AP50 44.0) on COCO test-dev at 608 pixels, 62.94 G operations there; VOC07 mAP 76.8 at 416.

    50,962,889 parameters with 80 classes; 29.5 G operations (two a multiply-add) at 416 pixels.
    """
    return part(
        Detector,
        backbone=part(Darknet19),
        neck=part(Passthrough, finest=16, coarsest=32, narrow=64, channels=1024, convs=2),
        head=part(YOLOv2Head, num_classes=num_classes),
        suppression=part(NMS, iou_threshold=0.45),
        input=part(Letterbox, size_hw=(416, 416)),
    )
