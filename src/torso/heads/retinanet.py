"""RetinaNet's head: two towers, nine anchors a place, sigmoid scores (Lin et al. 2017, arXiv 1708.02002)."""

from __future__ import annotations

from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors.anchors import Anchors
from torso.heads.dense import DenseHead
from torso.parts import part


class RetinaNetHead(
    DenseHead,
    tower=4,
    priors=part(Anchors, base_scale=4.0, octave_scales=3, ratios=(0.5, 1.0, 2.0)),
    coder=part(DeltaCoder),
    prior_probability=0.01,
    score_threshold=0.05,
):
    """The dense head in the paper's setting: anchors of side 4 strides x 2^(0, 1/3, 2/3) at ratios 1/2, 1, 2.

    torchvision truncates the sides, rounds the corners and takes the stride from the picture; `weights` has that form.
    """
