"""YOLOv5 n to x: CSPDarknet and CSP path aggregation, one 1x1 a level (https://doi.org/10.5281/zenodo.3908559)."""

from __future__ import annotations

from torso.backbones import csp_sizes as sizes
from torso.backbones.csp import CSPDarknet
from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.shapes import Shapes
from torso.heads.dense import DenseHead
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.csp_pan import CSPPAN
from torso.parts import Part, part
from torso.suppression.nms import NMS


class YOLOv5Head(
    DenseHead,
    finest=8,
    coarsest=32,
    shared=False,
    tower=0,
    out_kernel=1,
    priors=part(
        Shapes,
        sizes=(
            ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
            ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
            ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
        ),
    ),
    coder=part(YOLOCoder, scale_xy=2.0, size="square"),
    quality="box",
    quality_prior=(0.00125, 0.005, 0.02),
    prior_probability=0.0075,
    score_threshold=0.001,
):
    """YOLOv5's head: a 1x1 on each level, boxes of at most four anchors (https://doi.org/10.5281/zenodo.3908559).

    The dense head in YOLOv5's setting, with YOLOv3's anchors; score is objectness times class.

    Objectness starts at 8 objects on a level's (640 / stride)^2 locations, classes at 0.6 of one of 80.
    """


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
