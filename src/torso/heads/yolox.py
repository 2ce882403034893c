"""YOLOX's head: a point a place, class and box in towers of their own (Ge et al. 2021, arXiv 2107.08430)."""

from __future__ import annotations

from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.parts import part


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
    """The dense head in the authors' setting: the point is its cell's corner, sizes are e^t strides.

    `channels` is 256 at width 1. The 1x1 that the authors put before the towers is the last of the neck csp_pan. Sizes
    end at e^8 strides, which no picture has; the authors' do not end.
    """
