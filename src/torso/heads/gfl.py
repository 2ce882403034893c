"""GFL's head: class scores that say how well the box fits, sides as distributions (Li et al. 2020, 2006.04388)."""

from __future__ import annotations

from torso.geometry.coders.distribution import DistributionCoder
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.parts import part


class GFLHead(
    DenseHead,
    tower=4,
    norm="gn",
    priors=part(Points, offset=0.0),
    coder=part(DistributionCoder, reg_max=16),
    quality="none",
    level_scale=True,
    prior_probability=0.01,
):
    """The dense head in the paper's setting; points are the corners of cells, as in the authors' code."""
