"""The contract of an assigner: which ground truth each prior learns, for a whole padded batch at once."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.errors import Settings
from torso.heads.dense import DenseHead
from torso.plain_values import Checked
from torso.training.assignment import Assignment, Pairs
from torso.types import Priors


class Missing(NamedTuple):
    """Why an assigner cannot train a head, worded to follow its name ("chooses by shape, but ..."), and the settings
    that mend it, none where nothing does.
    """

    reason: str
    settings: Settings = MappingProxyType({})


class Assigner(Checked):
    """Called under no_grad with the priors, the targets and, where `needs_predictions`, the current predictions.

    boxes: [B, N, 4] decoded predictions; scores: [B, N, K], fused with the quality branch where there is one and
    `fused_scores` wants it. Rows of Targets that are not valid, or are crowd, never match; M may be 0. No Python loop
    over images, no .item(), no boolean indexing: the caller compiles this with the model.

    gives_quality: whether Assignment.quality is there; quality_is_score: whether it is what the class should score.
    gives_pairs: whether the answer is Pairs. at_cell: whether a target's priors all lie about the cell of its centre,
    as the codes of the YOLO line want it. centers_inside: whether every positive's centre lies inside its target, as
    codes of distances want it; of other rules these learn what a code represents (see matching.with_centers_inside).
    needs_grid: whether it looks at cells of maps (Priors.levels), so that regions of a second stage cannot be assigned.
    """

    needs_predictions: bool = False
    fused_scores: bool = True
    gives_quality: bool = False
    quality_is_score: bool = False
    gives_pairs: bool = False
    at_cell: bool = False
    centers_inside: bool = False
    needs_grid: bool = False

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment | Pairs:
        raise NotImplementedError

    def missing(self, head: DenseHead) -> list[Missing]:
        """What is missing for this rule to train that head's priors and codes; [] where nothing is."""
        return []


CHUNK = 32
"""Targets handled at a time: a [B, N, M] float matrix at M = 500 would take 6 GiB."""


def matchable(targets: Targets) -> Tensor:
    """[B, M] bool: real rows that may match."""
    return targets.valid & ~targets.crowd


def with_a_row(targets: Targets) -> Targets:
    """The same, of M >= 1: without a row one that is not valid, so that there is something to gather from."""
    if targets.boxes.shape[1]:
        return targets
    return targets.map(lambda column: column.new_zeros(column.shape[0], 1, *column.shape[2:]))


def boxes_to_match(priors: Priors, point_scale: float) -> Tensor:
    """[N, 4] or [B, N, 4]: the priors as boxes whose overlap with a target is meaningful.

    A point is written as a box of one stride, which overlaps no target of its level's size; one of `point_scale`
    strides stands for it. Anchors and RoIs ([B, N, 2]) are boxes of their own, whatever their sides.
    """
    if not priors.points:
        return priors.boxes
    half = priors.sizes_wh * (point_scale / 2)
    return torch.cat([priors.centers_xy - half, priors.centers_xy + half], dim=-1)
