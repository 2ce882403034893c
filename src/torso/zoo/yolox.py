"""YOLOX tiny to l: no anchors, decoupled towers, optimal assignment simplified (Ge et al. 2021, arXiv 2107.08430)."""

from __future__ import annotations

from torso.backbones.csp import CSPDarknet
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.csp_pan import CSPPAN
from torso.parts import Part, part
from torso.suppression.nms import NMS


class YOLOXHead(
    DenseHead,
    finest=8,
    coarsest=32,
    shared=False,
    channels=256,
    tower=2,
    out_kernel=1,
    norm="bn_yolo",
    activation="silu",
    priors=part(Points, offset=0.0),
    coder=part(DeltaCoder, max_log_ratio=8.0),
    quality="box",
    quality_prior=0.01,
    prior_probability=0.01,
    score_threshold=0.01,
):
    """YOLOX's head: a point a location, class and box in towers of their own (Ge et al. 2021, arXiv 2107.08430).

    The dense head in the authors' setting: the point is its cell's corner, sizes are e^t strides.

    `channels` is 256 at width 1. The 1x1 that the authors put before the towers is the last of the neck csp_pan. Sizes
    end at e^8 strides, which no image has; the authors' do not end.
    """


def yolox_tiny(*, num_classes: int = 80) -> Part[Detector]:
    """YOLOX-tiny, 416 pixels: 5.06 M parameters, 6.45 G operations, AP 32.8 on COCO val2017 (arXiv 2107.08430)."""
    return _family(num_classes, width=0.375, depth=0.33, size=416)


def yolox_s(*, num_classes: int = 80) -> Part[Detector]:
    """YOLOX-s, 640 pixels: 9.0 M parameters, 26.8 G operations, AP 40.5 on COCO val2017 (arXiv 2107.08430)."""
    return _family(num_classes, width=0.5, depth=0.33, size=640)


def yolox_m(*, num_classes: int = 80) -> Part[Detector]:
    """YOLOX-m, 640 pixels: 25.3 M parameters, 73.8 G operations, AP 46.9 on COCO val2017 (arXiv 2107.08430)."""
    return _family(num_classes, width=0.75, depth=0.67, size=640)


def yolox_l(*, num_classes: int = 80) -> Part[Detector]:
    """YOLOX-l, 640 pixels: 54.2 M parameters, 155.6 G operations, AP 49.7 on COCO val2017 (arXiv 2107.08430)."""
    return _family(num_classes, width=1.0, depth=1.0, size=640)


def _family(num_classes: int, *, width: float, depth: float, size: int) -> Part[Detector]:
    """One member; the neck's last 1x1 brings every level to the head's width."""
    channels = round(256 * width)
    return part(
        Detector,
        backbone=part(CSPDarknet, width=width, depth=depth, repeats=(3, 9, 9, 3), stem="focus", pooling="spp"),
        neck=part(CSPPAN, channels=channels, depth=round(3 * depth), finest=8, coarsest=32),
        head=part(YOLOXHead, num_classes=num_classes, channels=channels),
        suppression=part(NMS, iou_threshold=0.65),
        input=part(Letterbox, size_hw=(size, size)),
    )
