"""YOLOv5 n to x: CSPDarknet and CSP path aggregation, one 1x1 a level (https://doi.org/10.5281/zenodo.3908559)."""

from __future__ import annotations

from torso.backbones import csp_sizes as sizes
from torso.backbones.csp import CSPDarknet
from torso.heads.yolov5 import YOLOv5Head
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.csp_pan import CSPPAN
from torso.parts import Part, part
from torso.suppression.nms import NMS


def yolov5n(*, num_classes: int = 80) -> Part[Detector]:
    """YOLOv5n, 640 pixels: 1.9 M parameters, 4.5 G operations, AP 28.0 (https://doi.org/10.5281/zenodo.3908559)."""
    return _family(num_classes, sizes.csp_n())


def yolov5s(*, num_classes: int = 80) -> Part[Detector]:
    """YOLOv5s, 640 pixels: 7.2 M parameters, 16.5 G operations, AP 37.4 (https://doi.org/10.5281/zenodo.3908559)."""
    return _family(num_classes, sizes.csp_s())


def yolov5m(*, num_classes: int = 80) -> Part[Detector]:
    """YOLOv5m, 640 pixels: 21.2 M parameters, 49.0 G operations, AP 45.4 (https://doi.org/10.5281/zenodo.3908559)."""
    return _family(num_classes, sizes.csp_m())


def yolov5l(*, num_classes: int = 80) -> Part[Detector]:
    """YOLOv5l, 640 pixels: 46.5 M parameters, 109.1 G operations, AP 49.0 (https://doi.org/10.5281/zenodo.3908559)."""
    return _family(num_classes, sizes.csp_l())


def yolov5x(*, num_classes: int = 80) -> Part[Detector]:
    """YOLOv5x, 640 pixels: 86.7 M parameters, 205.7 G operations, AP 50.7 (https://doi.org/10.5281/zenodo.3908559)."""
    return _family(num_classes, sizes.csp_x())


def _family(num_classes: int, backbone: Part[CSPDarknet]) -> Part[Detector]:
    """One member; published counts are those of release 7.0, whose norms are folded into the convolutions."""
    return part(
        Detector,
        backbone=backbone,
        neck=part(CSPPAN, channels=None, depth=round(3 * backbone.get("depth")), finest=8, coarsest=32),
        head=part(YOLOv5Head, num_classes=num_classes),
        suppression=part(NMS, iou_threshold=0.6, max_detections=300),
        input=part(Letterbox, size_hw=(640, 640)),
    )
