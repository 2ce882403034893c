"""RetinaNet: one stage, dense anchors, focal loss (Lin et al. 2017, arXiv 1708.02002)."""

from __future__ import annotations

from torso.backbones.timm import Timm
from torso.heads.retinanet import RetinaNetHead
from torso.inputs.short_side import ShortSide
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import Part, part
from torso.suppression.nms import NMS


def retinanet(*, num_classes: int = 80) -> Part[Detector]:
    """ResNet-50, FPN P3-P7 with P6 from C5, nine anchors a place.

    Published: AP 35.7 (R50, 800, COCO test-dev); mmdetection's 1x schedule 36.5 on val2017.
    37,968,692 parameters with 80 classes.
    """
    return part(
        Detector,
        backbone=part(Timm, name="resnet50", frozen_stride=4, frozen_norm=True),
        neck=part(FPN, channels=256, finest=8, coarsest=128, extra="conv_c5"),
        head=part(RetinaNetHead, num_classes=num_classes, finest=8, coarsest=128),
        suppression=part(NMS, iou_threshold=0.5),
        input=part(ShortSide, short=800, longest=1333),
    )
