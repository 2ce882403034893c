"""ATSS's head: FCOS's layers on one square anchor of eight strides a place (Zhang et al. 2020, arXiv 1912.02424)."""

from __future__ import annotations

from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors.anchors import Anchors
from torso.heads.dense import DenseHead
from torso.parts import part


class ATSSHead(
    DenseHead,
    tower=4,
    norm="gn",
    priors=part(Anchors, base_scale=8.0, octave_scales=1, ratios=(1.0,)),
    coder=part(DeltaCoder, weights=(10.0, 10.0, 5.0, 5.0)),
    quality="box",
    fusion="product",
    level_scale=True,
    prior_probability=0.01,
):
    """The dense head in the paper's setting; the weights of the codes are those of the authors' code."""
