"""YOLOv3: Darknet-53, three levels of three anchors (Redmon, Farhadi 2018, arXiv 1804.02767)."""

from __future__ import annotations

from torso.backbones.darknet import darknet53
from torso.heads.yolov3 import YOLOv3Head
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.concat_fpn import ConcatFPN
from torso.parts import Part, part
from torso.suppression.nms import NMS


def yolov3(*, num_classes: int = 80) -> Part[Detector]:
    """As yolov3.cfg, at 416 pixels.

    Published: AP 28.2, 31.0, 33.0 on COCO test-dev at 320, 416, 608 pixels, 38.97, 65.86, 140.69 G operations;
    mmdetection's 273 epochs 30.9 at 416. 61,949,149 parameters with 80 classes.
    """
    return part(
        Detector,
        backbone=darknet53(),
        neck=part(ConcatFPN, channels=(128, 256, 512)),
        head=part(YOLOv3Head, num_classes=num_classes),
        suppression=part(NMS, iou_threshold=0.45),
        input=part(Letterbox, size_hw=(416, 416)),
    )
