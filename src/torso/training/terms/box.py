"""The box term of dense heads and second stages: codes or decoded boxes of the positives against their targets."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from torso.bounds import NotNegative
from torso.data.targets import Targets
from torso.geometry.boxes import area
from torso.geometry.coders._base import Coder
from torso.geometry.coders.yolo import YOLOCoder
from torso.heads._base import Head
from torso.parts import Part, PartError, part
from torso.training.assigners._base import Assigner
from torso.training.losses._base import BoxLoss, UncertainBoxLoss
from torso.training.losses.l1 import L1Loss
from torso.training.losses.yolo_box import YOLOBoxLoss
from torso.training.matching import Matches
from torso.training.terms._base import Learners, Normaliser, Rows, Term, weighed
from torso.types import Priors

BoxWeighting = Literal["none", "quality", "score", "size"]


class BoxTerm(Term):
    """The loss of boxes, over the positives.

    Args:
        weighting: of each positive's box, "quality" by its soft target (FCOS), "score" by its best class score now
            (GFL), both divided by the sum of these weights; "size" by 2 - area / image (darknet's YOLOv3).
        weight: factor of the term. normaliser: in place of the criterion's.
    """

    name = "box"
    weighed = True

    def __init__(
        self,
        assigner: Assigner,
        normaliser_of_all: Normaliser,
        *,
        loss: Part[BoxLoss] = part(L1Loss),
        weighting: BoxWeighting = "none",
        weight: NotNegative = 1.0,
        normaliser: Normaliser | None = None,
    ) -> None:
        super().__init__(assigner, normaliser_of_all, weight=weight, own=normaliser)
        self.loss, self.weighting = loss.build(), weighting

    @property
    def reads_boxes(self) -> bool:
        return self.loss.space == "boxes"

    @property
    def weights_count(self) -> bool:
        """Whether the sum of the weights is what the terms of the boxes are divided by."""
        return self.weighting in ("quality", "score")

    def weights(self, matches: Matches, priors: Priors, targets: Targets, scores: Tensor | None) -> Tensor | None:
        """[B, R] what each row's box counts, 0 off the positives; None where all positives count alike.

        priors: all N; scores: [B, R] the best class score of each row now, where weighting is "score".
        """
        weights = matches.weight
        if self.weighting == "quality":
            weights = matches.quality
        elif self.weighting == "score":
            weights = scores
        elif self.weighting == "size":
            height, width, _ = priors.levels[0]
            image = priors.strides_xy[0].prod() * (width * height)
            weights = (2 - area(targets.boxes) / image).gather(1, matches.target)
        return None if weights is None else torch.where(matches.positive, weights, 0.0)

    def sums(self, learners: Learners, rows: Rows) -> Tensor:
        return weighed(self._values(rows), learners) * self.weight

    def _values(self, rows: Rows) -> Tensor:
        """[B, R]."""
        if self.loss.space == "boxes":
            assert rows.boxes is not None
            return self.loss(rows.boxes, rows.target_boxes)
        target = rows.coder.encode(rows.target_boxes, rows.priors)
        if isinstance(self.loss, UncertainBoxLoss):
            return self.loss(rows.codes, target, rows.log_variance)
        return self.loss(rows.codes, target)

    def check(self, head: Head, coder: Coder, path: str) -> None:
        if coder.bins:
            _check_distribution(self.loss, head, f"{path}.loss")
        else:
            _check_uncertainty(self.loss, head, f"{path}.loss")
        if isinstance(self.loss, YOLOBoxLoss) and not isinstance(coder, YOLOCoder):
            raise PartError(
                "YOLOBox reads the first two codes as an offset within a cell, as the yolo coder says it, but "
                f"{type(head).__name__} has the coder {type(coder).__name__} here",
                remedies=[{f"{path}.loss": "smooth_l1"}, {f"{path}.loss": "giou"}],
            )

    def without_quality(self, assigner: Assigner, head: Head, path: str) -> dict[str, object]:
        plain: dict[str, object] = {f"{path}.weighting": "none"} if self.weighting == "quality" else {}
        return {**plain, **super().without_quality(assigner, head, path)}


def _check_distribution(loss: BoxLoss, head: Head, path: str) -> None:
    """Its codes are logits, which the distribution term teaches: neither a loss on codes nor a variance means anything
    there.
    """
    name, branch, sure = type(loss).__name__, head.has_uncertainty, isinstance(loss, UncertainBoxLoss)
    if not branch and not sure:
        if loss.space == "codes":
            raise PartError(
                f"{name} compares codes, but this head's coder predicts a distribution for each side, which the "
                "distribution term teaches, so that a loss of the IoU family is expected",
                remedies=[{path: "giou"}],
            )
        return
    plain = {"head.coder": ("ltrb", True), "head.uncertainty": (True, not branch), path: ("kl", not sure)}
    without = {"head.uncertainty": (False, branch), path: ("giou", loss.space == "codes")}
    raise PartError(
        f"{type(head).__name__} predicts a distribution for each side here, and how sure it is can be learnt of plain "
        "codes only, by the loss kl",
        remedies=[{p: value for p, (value, needed) in way.items() if needed} for way in (plain, without)],
    )


def _check_uncertainty(loss: BoxLoss, head: Head, path: str) -> None:
    """A branch that nothing trains, or a loss that needs one."""
    name, who = type(loss).__name__, type(head).__name__
    if isinstance(loss, UncertainBoxLoss) and not head.has_uncertainty:
        raise PartError(
            f"{name} learns how sure a head is of its boxes, and {who} does not say it here",
            remedies=[{"head.uncertainty": True}, {path: "smooth_l1"}],
        )
    if head.has_uncertainty and not isinstance(loss, UncertainBoxLoss):
        raise PartError(
            f"{name} does not look at the uncertainty branch of {who}, which would never be trained",
            remedies=[{path: "kl"}, {"head.uncertainty": False}],
        )
