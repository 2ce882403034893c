"""FCOS: one stage, one point a place, no anchors (Tian et al. 2019, arXiv 1904.01355)."""

from __future__ import annotations

from torso.backbones.timm import Timm
from torso.heads.fcos import FCOSHead
from torso.inputs.short_side import ShortSide
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import Part, part
from torso.suppression.nms import NMS


def fcos(*, num_classes: int = 80) -> Part[Detector]:
    """ResNet-50, FPN P3-P7 with P6 from P5, group-normed towers, centerness.

    Published: mmdetection's R50-caffe 1x schedule 36.6 AP on COCO val2017; 32,295,322 parameters with 80 classes.
    """
    return part(
        Detector,
        backbone=part(Timm, name="resnet50", frozen_stride=4, frozen_norm=True),
        neck=part(FPN, channels=256, finest=8, coarsest=128, extra="conv_p5"),
        head=part(FCOSHead, num_classes=num_classes, finest=8, coarsest=128),
        suppression=part(NMS, iou_threshold=0.6),
        input=part(ShortSide, short=800, longest=1333),
    )
