"""Task-aligned head of the v8 style: unequal towers, distances as distributions (arXiv 2108.07755, 2006.04388)."""

from __future__ import annotations

from torso.geometry.coders.distribution import DistributionCoder
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.parts import part


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
    """The dense head in the setting that YOLOv8 made known, from what was published of it: no anchors, no objectness.

    `channels` is the finest level's width, or more for many classes; `box_channels` a quarter of that width, but at
    least 64, four times the 16 bins of a side. Classes start at 1e-4, about five objects of 80 classes on 640 x 640.
    """
