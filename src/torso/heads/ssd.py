"""SSD's head: one 3x3 convolution a level and output, default boxes, a softmax (Liu et al. 2016, arXiv 1512.02325)."""

from __future__ import annotations

from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors.ssd import SSDAnchors
from torso.heads.dense import DenseHead
from torso.parts import part


class SSDHead(
    DenseHead,
    shared=False,
    tower=0,
    out_kernel=3,
    priors=part(SSDAnchors),
    coder=part(DeltaCoder, weights=(10.0, 10.0, 5.0, 5.0)),
    scores="softmax",
    score_threshold=0.01,
):
    """The dense head in the paper's setting; the weights of the codes are its variances 0.1 and 0.2, inverted."""
