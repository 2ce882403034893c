"""EfficientDet's head: separable towers shared over levels, whose norms are not (Tan et al. 2020, arXiv 1911.09070)."""

from __future__ import annotations

from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors.anchors import Anchors
from torso.heads.dense import DenseHead
from torso.parts import part


class EfficientDetHead(
    DenseHead,
    channels=64,
    tower=3,
    norm="bn_tf",
    level_norms=True,
    separable=True,
    activation="silu",
    priors=part(Anchors, base_scale=4.0, octave_scales=3, aspects=((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)), offset=0.5),
    coder=part(DeltaCoder),
    prior_probability=0.01,
    score_threshold=0.01,
):
    """The dense head in the authors' setting: anchors as RetinaNet's, but centred in their cells and with sides of
    1.4 by 0.7 where the ratio is 2. tower_bias=True gives each pointwise convolution the bias of the published weights.
    """
