"""FCOS's head: one point a place, distances to the four sides, centerness (Tian et al. 2019, arXiv 1904.01355)."""

from __future__ import annotations

from torso.geometry.coders.ltrb import LTRBCoder
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.parts import part


class FCOSHead(
    DenseHead,
    tower=4,
    norm="gn",
    priors=part(Points, offset=0.5),
    coder=part(LTRBCoder, transform="exp"),
    quality="cls",
    fusion="product",
    level_scale=True,
    prior_probability=0.01,
):
    """The dense head in the paper's setting.

    Centerness sits on the classification tower as in the paper; the authors' later code and torchvision put it on the
    box tower (quality="box"). The score is class * centerness; torchvision takes its square root (fusion="sqrt").
    """
