"""YOLOv4: CSPDarknet-53, SPP, PAN by concatenation (Bochkovskiy et al. 2020, arXiv 2004.10934)."""

from __future__ import annotations

from torso.backbones.darknet import cspdarknet53
from torso.blocks.spp import SPP
from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.shapes import Shapes
from torso.heads.dense import DenseHead
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.at_levels import AtLevels
from torso.necks.pan import PAN
from torso.parts import Part, part
from torso.suppression.diou_nms import DIoUNMS


class YOLOv4Head(
    DenseHead,
    finest=8,
    coarsest=32,
    shared=False,
    channels=(256, 512, 1024),
    tower=1,
    joint_tower=True,
    out_kernel=1,
    norm="bn",
    activation="leaky_relu",
    priors=part(
        Shapes,
        sizes=(
            ((12.0, 16.0), (19.0, 36.0), (40.0, 28.0)),
            ((36.0, 75.0), (76.0, 55.0), (72.0, 146.0)),
            ((142.0, 110.0), (192.0, 243.0), (459.0, 401.0)),
        ),
    ),
    coder=part(YOLOCoder, scale_xy=((8, 1.2), (16, 1.1), (32, 1.05))),
    quality="box",
    quality_prior=(0.0014, 0.0055, 0.022),
    prior_probability=0.01,
    score_threshold=0.005,
):
    """YOLOv4's head: YOLOv3's, with centres that reach their cell's edge (Bochkovskiy et al. 2020, arXiv 2004.10934).

    The dense head in the setting of darknet's yolov4.cfg, anchors of COCO; initial scores as YOLOv3's here.
    """


def yolov4(*, num_classes: int = 80) -> Part[Detector]:
    """As yolov4.cfg, with its DIoU-NMS.

    Published: AP 41.2, 43.0, 43.5 on COCO test-dev at 416, 512, 608 pixels, 96, 83, 62 images a second (V100).
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
