"""YOLOv2's head: five fitted anchors a cell, class softmax, objectness (Redmon, Farhadi 2016, arXiv 1612.08242)."""

from __future__ import annotations

from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.shapes import Shapes
from torso.heads.dense import DenseHead
from torso.parts import part

_CELLS = ((0.57273, 0.677385), (1.87446, 2.06253), (3.33843, 5.47434), (7.88282, 3.52778), (9.77052, 9.16828))


class YOLOv2Head(
    DenseHead,
    finest=32,
    coarsest=32,
    shared=False,
    channels=1024,
    tower=1,
    joint_tower=True,
    out_kernel=1,
    norm="bn",
    activation="leaky_relu",
    priors=part(Shapes, sizes=(tuple((32 * w, 32 * h) for w, h in _CELLS),)),
    coder=part(YOLOCoder),
    scores="softmax",
    background=False,
    quality="box",
    quality_prior=0.02,
    score_threshold=0.005,
):
    """The dense head in the setting of darknet's yolov2.cfg, anchors of COCO; the last 3x3 convolution is its tower.

    The score is objectness times the class's share. Ours: objectness starts at 0.02 in place of 0.5.
    """
