"""Who learns what: an assigner's answer, without crowds and what the codes cannot say, and what a sampler keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.coders._base import Coder
from torso.geometry.priors._base import gather_priors, level_of_rows
from torso.training.assigners._base import CHUNK, Assigner, with_a_row
from torso.training.assignment import BACKGROUND, IGNORED, Assignment, Pairs
from torso.training.samplers._base import Sampler
from torso.types import Priors

Crowd = Literal["background", "ignored"]


class Matches(NamedTuple):
    """R rows an image: the N priors themselves (prior is None), or P pairs, of which several may share a prior.

    prior: [B, R] int64 or None; target: [B, R] int64, a row of Targets, 0 where there is none; positive: [B, R] bool;
    used: [B, N] bool, the priors that are not ignored; quality: [B, R] float or None; weight: [B, R] float or None;
    level: [N] int64, of the priors; levels: how many there are to be summed apart, 1 for all together.
    """

    prior: Tensor | None
    target: Tensor
    positive: Tensor
    used: Tensor
    quality: Tensor | None
    weight: Tensor | None
    level: Tensor
    levels: int

    def pick(self, values: Tensor) -> Tensor:
        """[B, N, W] or [B, N] of the priors as [B, R, W] or [B, R] of the rows."""
        if self.prior is None:
            return values
        if values.dim() == 2:
            return values.gather(1, self.prior)
        return values.gather(1, self.prior[..., None].expand(-1, -1, values.shape[-1]))

    def priors(self, priors: Priors) -> Priors:
        """The prior of each row."""
        return priors if self.prior is None else gather_priors(priors, self.prior)

    def on_priors(self, values: Tensor) -> Tensor:
        """[B, N]: of the values >= 0 of a prior's rows [B, R] the highest, 0 where it has no positive row."""
        values = torch.where(self.positive, values, 0.0)
        if self.prior is None:
            return values
        return torch.zeros_like(self.used, dtype=values.dtype).scatter_reduce(1, self.prior, values, "amax")

    def ignoring_crowds(self, priors: Priors, targets: Targets) -> Matches:
        """The same, but background whose centre lies in a crowd's box is ignored: it may well show an object."""
        learns = self.on_priors(torch.ones_like(self.positive, dtype=torch.float32)) > 0
        return self._replace(used=self.used & (learns | ~inside_crowds(priors, targets)))

    def sums(self, rows: Tensor) -> Tensor:
        """[B, levels]: sums over rows [B, R]."""
        return self._sums(rows, self.level if self.prior is None else self.level[self.prior])

    def sums_of_priors(self, values: Tensor) -> Tensor:
        """[B, levels]: sums over priors [B, N]."""
        return self._sums(values, self.level)

    def _sums(self, values: Tensor, level: Tensor) -> Tensor:
        if self.levels == 1:
            return values.sum(1, keepdim=True)
        return torch.stack([torch.where(level == i, values, 0).sum(1) for i in range(self.levels)], dim=1)


class Matcher:
    """An assigner's answer as rows that learn, crowds left out and sampled.

    Args:
        sampler: draws among positives and background; None keeps all.
        crowd: what background inside a crowd's box is.
        per_level: sums over rows are taken level by level.
    """

    def __init__(self, assigner: Assigner, sampler: Sampler | None, *, crowd: Crowd, per_level: bool) -> None:
        self.assigner, self.sampler, self.crowd, self.per_level = assigner, sampler, crowd, per_level

    def __call__(
        self,
        priors: Priors,
        targets: Targets,
        coder: Coder,
        *,
        boxes: Tensor | None = None,
        scores: Tensor | None = None,
        costs: Callable[[Matches], Tensor] | None = None,
    ) -> Matches:
        """What the priors' rows learn.

        boxes [B, N, 4], scores [B, N, K]: what the model says now, for an assigner that needs predictions.
        costs: [B, N], what each prior costs as background now, where these rows learn. None, where the network has not
            run: a sampler then keeps as many rows of each kind, though perhaps others.
        """
        answer = self._said(self.assigner(priors, targets, boxes, scores), priors, targets, coder)
        if isinstance(answer, Assignment):
            answer = self._sampled(self._without_crowds(answer, priors, targets), priors, costs)
        matches = matches_of(answer, priors, per_level=self.per_level)
        in_pairs = isinstance(answer, Pairs) and self.crowd == "ignored"
        return matches.ignoring_crowds(priors, targets) if in_pairs else matches

    def _said(self, answer: Assignment | Pairs, priors: Priors, targets: Targets, coder: Coder) -> Assignment | Pairs:
        """What the coder can say of an answer."""
        if not coder.holds_center or self.assigner.centers_inside:
            return answer
        return with_centers_inside(answer, priors, targets)

    def _without_crowds(self, answer: Assignment, priors: Priors, targets: Targets) -> Assignment:
        """Before anything is drawn: what is ignored afterwards would have taken the place of what teaches."""
        if self.crowd == "background":
            return answer
        gone = (answer.target == BACKGROUND) & inside_crowds(priors, targets)
        return Assignment(torch.where(gone, IGNORED, answer.target), answer.quality)

    def _sampled(self, answer: Assignment, priors: Priors, costs: Callable[[Matches], Tensor] | None) -> Assignment:
        if self.sampler is None:
            return answer
        if not self.sampler.needs_loss:
            return self.sampler(answer, None)
        if costs is None:
            # which background a sampler keeps may follow from its loss; how much of it does not
            return self.sampler(answer, answer.target.float())
        return self.sampler(answer, costs(matches_of(answer, priors)))


def matches_of(answer: Assignment | Pairs, priors: Priors, *, per_level: bool = False) -> Matches:
    """Either answer of an assigner in the common form."""
    level, levels = level_of_rows(priors), len(priors.levels) if per_level else 1
    if isinstance(answer, Assignment):
        target = answer.target
        learns = target >= 0
        return Matches(None, target.clamp(min=0), learns, target != IGNORED, answer.quality, None, level, levels)
    learns = answer.weight > 0
    used = torch.ones(learns.shape[0], level.shape[0], dtype=torch.bool, device=learns.device)
    return Matches(answer.prior, answer.target, learns, used, None, answer.weight, level, levels)


def inside_crowds(priors: Priors, targets: Targets) -> Tensor:
    """[B, N] bool: priors whose centre lies in a crowd's box."""
    x, y = priors.centers_xy[..., None, :].unbind(-1)  # [N, 1] each
    inside = torch.zeros((targets.boxes.shape[0], x.shape[-2]), dtype=torch.bool, device=targets.boxes.device)
    for start in range(0, targets.boxes.shape[1], CHUNK):
        rows = slice(start, start + CHUNK)
        crowd = (targets.valid & targets.crowd)[:, None, rows]
        x1, y1, x2, y2 = targets.boxes[:, None, rows].unbind(-1)
        inside |= ((x >= x1) & (x < x2) & (y >= y1) & (y < y2) & crowd).any(-1)
    return inside


def with_centers_inside(answer: Assignment | Pairs, priors: Priors, targets: Targets) -> Assignment | Pairs:
    """The answer for a coder that `holds_center`, without the positives whose centre lies outside their target; priors
    of [N, 2] or, as RoIs, [B, N, 2].

    The nearest box that such a prior can say has a side at its centre, with a gradient of 0 (relu, the first bin) or
    one that drives the code down without end (exp). They are ignored, not background: an assigner that goes by
    overlap found the target there, so that a high score is no mistake either. Pairs have no such mark and count 0.
    """
    boxes = with_a_row(targets).boxes
    if isinstance(answer, Pairs):
        center = priors.centers_xy[answer.prior]
        return answer._replace(weight=torch.where(_inside(center, boxes, answer.target), answer.weight, 0.0))
    gone = (answer.target >= 0) & ~_inside(priors.centers_xy, boxes, answer.target)
    quality = None if answer.quality is None else torch.where(gone, 0.0, answer.quality)
    return Assignment(torch.where(gone, IGNORED, answer.target), quality)


def _inside(centers_xy: Tensor, boxes: Tensor, target: Tensor) -> Tensor:
    """[B, R] bool: centres [R, 2] or [B, R, 2] strictly inside the boxes [B, M, 4] of rows [B, R]."""
    own = boxes.gather(1, target.clamp(min=0)[..., None].expand(-1, -1, 4))
    return (torch.minimum(centers_xy - own[..., :2], own[..., 2:] - centers_xy) > 0).all(-1)


def labels_of(matches: Matches, targets: Targets, num_classes: int, background: int) -> Tensor:
    """[B, R]: 0..K-1, and off the positives `background`."""
    labels = targets.labels.gather(1, matches.target).clamp(max=num_classes - 1)
    return torch.where(matches.positive, labels, background)
