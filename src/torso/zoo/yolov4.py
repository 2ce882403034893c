"""YOLOv4: CSPDarknet-53, SPP, PAN by concatenation (Bochkovskiy et al. 2020, arXiv 2004.10934)."""

from __future__ import annotations

from torso.backbones.darknet import cspdarknet53
from torso.blocks.spp import SPP
from torso.heads.yolov4 import YOLOv4Head
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.at_levels import AtLevels
from torso.necks.pan import PAN
from torso.parts import Part, part
from torso.suppression.diou_nms import DIoUNMS


def yolov4(*, num_classes: int = 80) -> Part[Detector]:
    """As yolov4.cfg, with its DIoU-NMS.

    Published: AP 41.2, 43.0, 43.5 on COCO test-dev at 416, 512, 608 pixels, 96, 83, 62 pictures a second (V100).
    64,363,101 parameters with 80 classes; 30.05, 45.52, 64.19 G multiply-adds at those sizes.
    """
    return part(
        Detector,
        backbone=cspdarknet53(),
        neck=(
            part(AtLevels, block=part(SPP, channels=512, convs=3)),
            part(PAN, form="concat", channels=(128, 256, 512), finest=8, coarsest=32),
        ),
        head=part(YOLOv4Head, num_classes=num_classes),
        suppression=part(DIoUNMS, iou_threshold=0.45, beta=0.6),
        input=part(Letterbox, size_hw=(608, 608)),
    )
