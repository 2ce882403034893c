"""Which positives of an assigner a code of distances can say: those whose centre lies inside their truth."""

from __future__ import annotations

import torch

from torso.data.targets import Targets
from torso.training.assigners._base import with_a_row
from torso.training.assignment import IGNORED, Assignment, Pairs
from torso.types import Priors


def sayable(answer: Assignment | Pairs, priors: Priors, targets: Targets) -> Assignment | Pairs:
    """The answer for a coder that `holds_center`, without the positives outside their truth; priors of [N, 2] or, as
    RoIs, [B, N, 2].

    The nearest box that such a prior can say has a side at its centre, with a gradient of 0 (relu, the first bin) or
    one that drives the code down without end (exp). They are ignored, not background: an assigner that goes by
    overlap found the truth there, so that a high score is no mistake either. Pairs have no such mark and count 0.
    """
    boxes = with_a_row(targets).boxes
    if isinstance(answer, Pairs):
        center = priors.centers_xy[answer.prior]
        return answer._replace(weight=torch.where(_inside(center, boxes, answer.target), answer.weight, 0.0))
    gone = (answer.target >= 0) & ~_inside(priors.centers_xy, boxes, answer.target)
    quality = None if answer.quality is None else torch.where(gone, 0.0, answer.quality)
    return Assignment(torch.where(gone, IGNORED, answer.target), quality)


def _inside(centers_xy: torch.Tensor, boxes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """[B, R] bool: centres [R, 2] or [B, R, 2] strictly inside the boxes [B, M, 4] of rows [B, R]."""
    own = boxes.gather(1, target.clamp(min=0)[..., None].expand(-1, -1, 4))
    return (torch.minimum(centers_xy - own[..., :2], own[..., 2:] - centers_xy) > 0).all(-1)
