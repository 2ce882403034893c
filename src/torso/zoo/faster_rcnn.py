"""Faster R-CNN: proposals, then a class and a finer box for each (Ren et al. 2015, arXiv 1506.01497)."""

from __future__ import annotations

from torso.backbones.timm import Timm
from torso.heads.faster_rcnn import FasterRCNNHead
from torso.inputs.short_side import ShortSide
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import Part, part
from torso.suppression.nms import NMS


def faster_rcnn(*, num_classes: int = 80) -> Part[Detector]:
    """ResNet-50, FPN P2-P6 (arXiv 1612.03144), RoIAlign at aligned pixels with four points a bin.

    Published: R50-FPN 1x on COCO val2017 37.4 AP (mmdetection), 37.9 (detectron2), 37.0 (torchvision).
    41,753,056 parameters with 80 classes.
    """
    return part(
        Detector,
        backbone=part(Timm, name="resnet50", frozen_stride=4, frozen_norm=True),
        neck=part(FPN, channels=256, finest=4, coarsest=64, extra="pool"),
        head=part(FasterRCNNHead, num_classes=num_classes, finest=4, coarsest=32),
        suppression=part(NMS, iou_threshold=0.5),
        input=part(ShortSide, short=800, longest=1333),
    )
