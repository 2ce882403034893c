"""YOLOv4's head: YOLOv3's, with centres that reach their cell's edge (Bochkovskiy et al. 2020, arXiv 2004.10934)."""

from __future__ import annotations

from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.shapes import Shapes
from torso.heads.dense import DenseHead
from torso.parts import part


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
    """The dense head in the setting of darknet's yolov4.cfg, anchors of COCO; initial scores as YOLOv3's here."""
