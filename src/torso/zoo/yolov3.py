"""YOLOv3: Darknet-53, three levels of three anchors (Redmon, Farhadi 2018, arXiv 1804.02767)."""

from __future__ import annotations

from torso.backbones.darknet import darknet53
from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.shapes import Shapes
from torso.heads.dense import DenseHead
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.concat_fpn import ConcatFPN
from torso.parts import Part, part
from torso.suppression.nms import NMS


class YOLOv3Head(
    DenseHead,
    finest=8,
    coarsest=32,
    shared=False,
    channels=(256, 512, 1024),
    tower=1,
    joint_tower=True,
    out_kernel=1,
    norm="bn",
    activation="leaky_relu",
    priors=part(
        Shapes,
        sizes=(
            ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
            ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
            ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
        ),
    ),
    coder=part(YOLOCoder),
    quality="box",
    quality_prior=(0.0014, 0.0055, 0.022),
    prior_probability=0.01,
    score_threshold=0.005,
):
    """YOLOv3's head: three anchors a cell on three levels, objectness (Redmon, Farhadi 2018, arXiv 1804.02767).

    The dense head in the setting of darknet's yolov3.cfg, anchors of COCO.

    The score is objectness times class. Objectness starts as mmdetection's, at 8 objects on a level's
    (608 / stride)^2 locations; the other convolutions start as the dense head's.
    """


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
