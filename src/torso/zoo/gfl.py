"""GFL: ATSS without its centerness branch, boxes as distributions (Li et al. 2020, arXiv 2006.04388)."""

from __future__ import annotations

from torso.backbones.timm import Timm
from torso.geometry.coders.distribution import DistributionCoder
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.inputs.short_side import ShortSide
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import Part, part
from torso.suppression.nms import NMS


class GFLHead(
    DenseHead,
    tower=4,
    norm="gn",
    priors=part(Points, offset=0.0),
    coder=part(DistributionCoder, reg_max=16),
    quality="none",
    level_scale=True,
    prior_probability=0.01,
):
    """GFL's head: class scores that say how well the box fits, sides as distributions (Li et al. 2020, 2006.04388).

    The dense head in the paper's setting; points are the corners of cells, as in the authors' code.
    """


def gfl(*, num_classes: int = 80) -> Part[Detector]:
    """ResNet-50, FPN P3-P7 with P6 from P5.

    Published: mmdetection's R50 1x schedule 40.2 AP on COCO val2017; 32,440,537 parameters with 80 classes.
    """
    return part(
        Detector,
        backbone=part(Timm, name="resnet50", frozen_stride=4, frozen_norm=True),
        neck=part(FPN, channels=256, finest=8, coarsest=128, extra="conv_p5"),
        head=part(GFLHead, num_classes=num_classes, finest=8, coarsest=128),
        suppression=part(NMS, iou_threshold=0.6),
        input=part(ShortSide, short=800, longest=1333),
    )
