"""YOLOv5's head: a 1x1 on each level, boxes of at most four anchors (https://doi.org/10.5281/zenodo.3908559)."""

from __future__ import annotations

from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.shapes import Shapes
from torso.heads.dense import DenseHead
from torso.parts import part


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
    """The dense head in YOLOv5's setting, with YOLOv3's anchors; score is objectness times class.

    Objectness starts at 8 objects on a level's (640 / stride)^2 places, classes at 0.6 of one of 80.
    """
