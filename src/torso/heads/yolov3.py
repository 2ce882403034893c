"""YOLOv3's head: three anchors a cell on three levels, objectness (Redmon, Farhadi 2018, arXiv 1804.02767)."""

from __future__ import annotations

from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.shapes import Shapes
from torso.heads.dense import DenseHead
from torso.parts import part


class YOLOv3Head(
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
            ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
            ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
            ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
        ),
    ),
    coder=part(YOLOCoder),
    quality="box",
    quality_prior=(0.0014, 0.0055, 0.022),
    prior_probability=0.01,
    score_threshold=0.005,
):
    """The dense head in the setting of darknet's yolov3.cfg, anchors of COCO.

    The score is objectness times class. Objectness starts as mmdetection's, at 8 objects on a level's
    (608 / stride)^2 places; the other convolutions start as the dense head's.
    """
