"""YOLOv2: Darknet-19 with a passthrough, five anchors a cell (Redmon, Farhadi 2016, YOLO9000, arXiv 1612.08242)."""

from __future__ import annotations

from torso.backbones.darknet19 import Darknet19
from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.shapes import Shapes
from torso.heads.dense import DenseHead
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.passthrough import Passthrough
from torso.parts import Part, part
from torso.suppression.nms import NMS

_CELLS = ((0.57273, 0.677385), (1.87446, 2.06253), (3.33843, 5.47434), (7.88282, 3.52778), (9.77052, 9.16828))


class YOLOv2Head(
    DenseHead,
    finest=32,
    coarsest=32,
    shared=False,
    channels=1024,
    tower=1,
    joint_tower=True,
    out_kernel=1,
    norm="bn",
    activation="leaky_relu",
    priors=part(Shapes, sizes=(tuple((32 * w, 32 * h) for w, h in _CELLS),)),
    coder=part(YOLOCoder),
    scores="softmax",
    background=False,
    quality="box",
    quality_prior=0.02,
    score_threshold=0.005,
):
    """YOLOv2's head: five fitted anchors a cell, class softmax, objectness (Redmon, Farhadi 2016, arXiv 1612.08242).

    The dense head in the setting of darknet's yolov2.cfg, anchors of COCO; the last 3x3 convolution is its tower.

    The score is objectness times the class's share. Ours: objectness starts at 0.02 in place of 0.5.
    """


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
