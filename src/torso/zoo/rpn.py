"""RPN by itself: class-agnostic proposals, evaluated by recall (Ren et al. 2015, arXiv 1506.01497)."""

from __future__ import annotations

from torso.backbones.timm import Timm
from torso.heads.rpn import RPNHead
from torso.inputs.short_side import ShortSide
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import Part, part
from torso.suppression.nms import NMS


def rpn(*, num_classes: int = 1) -> Part[Detector]:
    """ResNet-50, FPN P2-P6. Whatever the data's classes, it finds "object": num_classes must stay 1.

    Each level is suppressed by itself, as mmdetection's RPN and the proposals of Faster R-CNN are.
    Published: mmdetection's R50-FPN 1x AR@1000 58.2 on COCO val2017; 27,446,351 parameters.
    """
    if num_classes != 1:
        raise ValueError(
            f"rpn: expected num_classes=1 (it finds one class, 'object'), got {num_classes}: choose another model"
        )
    return part(
        Detector,
        backbone=part(Timm, name="resnet50", frozen_stride=4, frozen_norm=True),
        neck=part(FPN, channels=256, finest=4, coarsest=64, extra="pool"),
        head=part(RPNHead, num_classes=1, finest=4, coarsest=64, levels_apart=True),
        suppression=part(NMS, iou_threshold=0.7, max_detections=1000),
        input=part(ShortSide, short=800, longest=1333),
    )
