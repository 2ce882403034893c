"""The contract of an assigner: which ground truth each prior learns, for a whole padded batch at once."""

from __future__ import annotations

from torch import Tensor

from torso.training.targets import Assignment, Targets
from torso.types import Priors


class Assigner:
    """Called under no_grad with the priors, the targets and, where `needs_predictions`, what the model says now.

    boxes: [B, N, 4] decoded predictions; scores: [B, N, K]. Rows of Targets that are not valid, or are crowd, never
    match. gives_quality: whether Assignment.quality is there. No Python loop over images, no .item(), no boolean
    indexing: the caller compiles this with the model.
    """

    needs_predictions: bool = False
    gives_quality: bool = False

    def __call__(
        self, priors: Priors, targets: Targets, boxes: Tensor | None = None, scores: Tensor | None = None
    ) -> Assignment:
        raise NotImplementedError


CHUNK = 32
"""Targets handled at a time: a [B, N, M] float matrix at M = 500 would take 6 GiB."""


def matchable(targets: Targets) -> Tensor:
    """[B, M] bool: real rows that may match."""
    return targets.valid & ~targets.crowd
