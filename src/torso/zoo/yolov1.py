"""YOLOv1: one stage, a grid of cells, two fully connected layers (Redmon et al. 2015, arXiv 1506.02640)."""

from __future__ import annotations

from torso.backbones.extraction import Extraction
from torso.heads.grid import GridHead
from torso.inputs.fixed import Fixed
from torso.models.detector import Detector
from torso.parts import Part, part
from torso.suppression.nms import NMS


def yolov1(*, num_classes: int = 80) -> Part[Detector]:
    """The 24 convolutions of figure 3 with BatchNorm, 7 x 7 cells of two boxes, 448 x 448 pixels, aspect given up.

    Published: mAP 63.4 on VOC07 at 45 images a second (Titan X). 40.57 G operations with 20 classes.
    """
    return part(
        Detector,
        backbone=part(Extraction),
        head=part(GridHead, num_classes=num_classes, grid_hw=(7, 7), boxes=2),
        suppression=part(NMS, iou_threshold=0.5),
        input=part(Fixed, size_hw=(448, 448)),
    )
