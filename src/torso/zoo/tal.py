"""Task-aligned detectors n to x of the v8 style: C2f layers, unequal towers, DFL (arXiv 2108.07755, 2207.02696)."""

from __future__ import annotations

from torso.backbones import csp_sizes as sizes
from torso.backbones.csp import CSPDarknet
from torso.geometry.coders.distribution import DistributionCoder
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.csp_pan import CSPPAN
from torso.parts import Part, part
from torso.suppression.nms import NMS


class TALHead(
    DenseHead,
    finest=8,
    coarsest=32,
    shared=False,
    channels=128,
    box_channels=64,
    tower=2,
    out_kernel=1,
    norm="bn_yolo",
    activation="silu",
    priors=part(Points, offset=0.5),
    coder=part(DistributionCoder, reg_max=15, margin=0.01),
    prior_probability=1e-4,
    score_threshold=0.001,
):
    """Task-aligned head of the v8 style: unequal towers, distances as distributions (arXiv 2108.07755, 2006.04388).

    The dense head in the setting that YOLOv8 made known, from what was published of it: no anchors, no objectness.

    `channels` is the finest level's width, or more for many classes; `box_channels` a quarter of that width, but at
    least 64, four times the 16 bins of a side. Classes start at 1e-4, about five objects of 80 classes on 640 x 640.
    """


def tal_n(*, num_classes: int = 80) -> Part[Detector]:
    """v8-style, nano, 640 pixels: 3.16 M parameters, 8.9 G operations; YOLOv8n has AP 37.3 (arXiv 2108.07755)."""
    return _family(num_classes, sizes.c2f_n(), width=64)


def tal_s(*, num_classes: int = 80) -> Part[Detector]:
    """v8-style, small, 640 pixels: 11.2 M parameters, 28.8 G operations; YOLOv8s has AP 44.9 (arXiv 2108.07755)."""
    return _family(num_classes, sizes.c2f_s(), width=128)


def tal_m(*, num_classes: int = 80) -> Part[Detector]:
    """v8-style, medium, 640 pixels: 25.9 M parameters, 79.3 G operations; YOLOv8m has AP 50.2 (arXiv 2108.07755)."""
    return _family(num_classes, sizes.c2f_m(), width=192)


def tal_l(*, num_classes: int = 80) -> Part[Detector]:
    """v8-style, large, 640 pixels: 43.7 M parameters, 165.7 G operations; YOLOv8l has AP 52.9 (arXiv 2108.07755)."""
    return _family(num_classes, sizes.c2f_l(), width=256)


def tal_x(*, num_classes: int = 80) -> Part[Detector]:
    """v8-style, extra large: 68.2 M parameters, 258.5 G operations; YOLOv8x has AP 53.9 (arXiv 2108.07755)."""
    return _family(num_classes, sizes.c2f_x(), width=320)


def _family(num_classes: int, backbone: Part[CSPDarknet], *, width: int) -> Part[Detector]:
    """One member; width is the finest level's. The class tower has 80 channels or more whatever the classes are, so
    that weights of COCO fit every other class list.
    """
    return part(
        Detector,
        backbone=backbone,
        neck=part(CSPPAN, channels=None, depth=round(3 * backbone.get("depth")), layer="c2f", finest=8, coarsest=32),
        head=part(TALHead, num_classes=num_classes, channels=max(width, 80), box_channels=max(width // 4, 64)),
        suppression=part(NMS, iou_threshold=0.7, max_detections=300),
        input=part(Letterbox, size_hw=(640, 640)),
    )
