"""SSD300 and SSD512: a VGG, ever smaller maps, default boxes of their sizes (Liu et al. 2016, arXiv 1512.02325)."""

from __future__ import annotations

from torso.backbones.ssd_vgg import SSDVGG
from torso.geometry.priors.ssd import SSDAnchors
from torso.heads.ssd import SSDHead
from torso.inputs.fixed import Fixed
from torso.models.detector import Detector
from torso.necks.ssd_extra import SSDExtra
from torso.parts import Part, part
from torso.suppression.nms import NMS

_FEW, _MANY = (2.0,), (2.0, 3.0)  # 4 and 6 default boxes a place


def ssd300(*, num_classes: int = 80) -> Part[Detector]:
    """SSD300: AP 25.1 on COCO test-dev, 8,732 default boxes, 34,305,206 parameters (arXiv 1512.02325).

    mmdetection's 120 epochs 25.5 on val2017. Parameters are those of 80 classes; torchvision's 35,641,826 of 90.
    """
    neck = part(
        SSDExtra,
        coarsest=16,
        widths=(512, 256, 256, 256),
        strides=(2, 2, 1, 1),
        paddings=(1, 1, 0, 0),
        steps=(32, 64, 100, 300),
    )
    boxes = part(
        SSDAnchors,
        sizes=(21.0, 45.0, 99.0, 153.0, 207.0, 261.0, 315.0),
        ratios=(_FEW, _MANY, _MANY, _MANY, _FEW, _FEW),
    )
    return _family(num_classes, 300, neck, boxes)


def ssd512(*, num_classes: int = 80) -> Part[Detector]:
    """SSD512: AP 28.8 on COCO test-dev, 24,564 default boxes, 36,038,196 parameters (arXiv 1512.02325).

    mmdetection's 120 epochs 29.5 on val2017. Sides are 4, 10, 26 ... 90, 106 % of 512 px.
    """
    neck = part(
        SSDExtra,
        coarsest=16,
        widths=(512, 256, 256, 256, 256),
        strides=(2, 2, 2, 2, 1),
        paddings=(1, 1, 1, 1, 1),
        last_kernel=4,
        steps=(32, 64, 128, 256, 512),
    )
    boxes = part(
        SSDAnchors,
        sizes=(20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72),
        ratios=(_FEW, _MANY, _MANY, _MANY, _MANY, _FEW, _FEW),
    )
    return _family(num_classes, 512, neck, boxes)


def _family(num_classes: int, side: int, neck: Part[SSDExtra], boxes: Part[SSDAnchors]) -> Part[Detector]:
    """One member; its last level is one place that sees the whole picture."""
    return part(
        Detector,
        backbone=part(SSDVGG),
        neck=neck,
        head=part(SSDHead, num_classes=num_classes, coarsest=side, priors=boxes),
        suppression=part(NMS, iou_threshold=0.45, max_detections=200, pre_nms_top_per_class=400),
        input=part(Fixed, size_hw=(side, side)),
    )
