"""The contract of a term: who learns what, and what is predicted, in; sums an image and their divisors, out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from torso.bounds import NotNegative
from torso.data.targets import Targets
from torso.errors import Settings
from torso.geometry.coders._base import Coder
from torso.heads._base import Head
from torso.heads.dense import DenseHead
from torso.plain_values import Checked
from torso.training.assigners._base import Assigner, matchable
from torso.training.matching import Matches
from torso.types import DensePredictions, Priors

Normaliser = Literal["positives", "image", "sampled", "quality", "targets", "batch"]
Counted = Literal["positives", "image", "sampled", "quality", "targets", "batch", "weights"]


class Learners(NamedTuple):
    """Who learns what, known without the network where the assigner does not look at it.

    matches: R rows an image. num_classes, columns: of the class scores, K and K or K + 1. background: the label of what
    is no object. weights: [B, R] what each row's box counts, 0 off the positives; None where all count alike.
    weights_count: boxes are divided by the sum of these weights.
    """

    matches: Matches
    targets: Targets
    num_classes: int
    columns: int
    background: int
    weights: Tensor | None = None
    weights_count: bool = False


def class_learners(matches: Matches, targets: Targets, head: DenseHead) -> Learners:
    """A softmax without a background column reads every label, and then drops it."""
    background = head.num_classes if head.columns > head.num_classes else 0 if head.softmax else -1
    return Learners(matches, targets, head.num_classes, head.columns, background)


class Rows(NamedTuple):
    """What the learners predict, and what they should predict.

    raw: of all N priors. levels: the logits of each level [B, N_i, columns], before they were joined.
    codes: [B, R, D] of the rows; log_variance: [B, R, 4] of these, or None; boxes: [B, R, 4] decoded, None where no
    term reads boxes. target_boxes: [B, R, 4], and off the positives a finite box; priors: of each row.
    """

    raw: DensePredictions
    levels: Sequence[Tensor]
    codes: Tensor
    log_variance: Tensor | None
    boxes: Tensor | None
    target_boxes: Tensor
    priors: Priors
    coder: Coder


class Term(Checked):
    """One part of a criterion's loss, built as Term(assigner, normaliser, weight=..., ...).

    Args:
        assigner: of the criterion, whose soft targets may be learnt. normaliser: what the criterion's sums are divided
            by where the term does not say (`own`).
        weight: factor of the term, 0 or more.

    name: what its values are logged as. weighed: whether each positive counts by its box's weight, so that the sum of
    these is what the term is divided by where they are counted. reads_boxes: whether it reads Rows.boxes.
    """

    name: str = ""
    weighed: bool = False

    def __init__(
        self, assigner: Assigner, normaliser: Normaliser, *, weight: NotNegative = 1.0, own: Normaliser | None = None
    ) -> None:
        self.assigner, self.weight, self.own, self.normaliser = assigner, weight, own, own or normaliser

    @property
    def reads_boxes(self) -> bool:
        return False

    @property
    def counted(self) -> Normaliser:
        """What the sums are divided by, where it is not the weights of the boxes."""
        return self.normaliser

    def kind(self, weights_count: bool) -> Counted:
        return "weights" if self.weighed and weights_count else self.counted

    def learns(self, head: Head, coder: Coder) -> bool:
        """Whether the head predicts what this term teaches; coder: of the boxes that it learns with."""
        return True

    def sums(self, learners: Learners, rows: Rows) -> Tensor:
        """[B, levels]: the loss of each image, times the weight."""
        raise NotImplementedError

    def total(self, learners: Learners, rows: Rows) -> Tensor:
        """[levels]: the sums of the batch; where they are counted by image, of each image's mean over positives."""
        sums = self.sums(learners, rows)
        if self.kind(learners.weights_count) == "image":
            sums = sums / learners.matches.positive.sum(1)[:, None].clamp(min=1)
        return sums.sum(0)

    def count(self, learners: Learners) -> Tensor:
        """[levels] float: what the sums are divided by."""
        return count_of(self.kind(learners.weights_count), learners)

    def check(self, head: Head, coder: Coder, path: str) -> None:
        """Raise PartError where it cannot teach what the head predicts by this coder.

        path: where its arguments stand in a recipe ("criterion.box"), for the remedies.
        """

    def without_quality(self, assigner: Assigner, head: Head, path: str) -> Settings:
        """Its arguments (and the head's) that ask for that assigner's soft targets, with values that do not."""
        return {f"{path}.normaliser": "positives"} if self.own == "quality" else {}


def count_of(kind: Counted, learners: Learners) -> Tensor:
    """[levels]: how many there are of what sums are divided by; of "image" those are the images."""
    matches = learners.matches
    if kind == "positives":
        return matches.sums(matches.positive).sum(0).float()
    if kind == "sampled":
        return matches.sums_of_priors(matches.used).sum(0).float()
    if kind == "quality":
        assert matches.quality is not None
        return matches.sums(torch.where(matches.positive, matches.quality, 0.0)).sum(0)
    if kind == "targets":
        return matchable(learners.targets).sum().float().expand(matches.levels)
    if kind == "weights":
        assert learners.weights is not None
        return matches.sums(learners.weights).sum(0)
    return torch.full((matches.levels,), float(matches.used.shape[0]), device=matches.used.device)


def weighed(values: Tensor, learners: Learners) -> Tensor:
    """[B, levels] sums of values [B, R] over the positives, each times its box's weight."""
    values = torch.where(learners.matches.positive, values, 0.0)
    return learners.matches.sums(values if learners.weights is None else values * learners.weights)
