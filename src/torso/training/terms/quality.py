"""The quality term of a dense head's branch: centerness or IoU on positives, or objectness against background."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.bounds import NotNegative, Positive, Probability
from torso.geometry.boxes import OverlapKind
from torso.geometry.coders._base import Coder
from torso.heads._base import Head
from torso.heads.dense import DenseHead
from torso.parts import PartError
from torso.training.assigners._base import Assigner
from torso.training.matching import Matches
from torso.training.terms._base import Learners, Normaliser, Rows, Term
from torso.training.terms.classification import overlap_now
from torso.types import Priors

QualityRows = Literal["positives", "used"]
QualityTarget = Literal["assigner", "one", OverlapKind]
QualityLoss = Literal["bce", "squared"]


class QualityTerm(Term):
    """The loss of the quality branch, logged as "quality", or as "objectness" where it learns background too.

    Args:
        on: "positives" (centerness), or "used": positives against background (YOLO).
        target: of a positive: the "assigner"'s quality, "one", or an overlap of its box as it is now, which enters as
            (1 - mix) + mix * overlap.
        loss: binary cross entropy, or "squared" error of the sigmoid, halved (YOLOv2).
        positive_weight: of positives among what is used (YOLOv2's object_scale 5), above 0.
        level_weights: of the levels, fine to coarse (YOLOv5 4, 1, 0.4); () is ones.
        weight: factor of the term. normaliser: in place of the criterion's.
    """

    def __init__(
        self,
        assigner: Assigner,
        normaliser_of_all: Normaliser,
        *,
        on: QualityRows = "positives",
        target: QualityTarget = "assigner",
        mix: Probability = 1.0,
        loss: QualityLoss = "bce",
        positive_weight: Positive = 1.0,
        level_weights: tuple[NotNegative, ...] = (),
        weight: NotNegative = 1.0,
        normaliser: Normaliser | None = None,
    ) -> None:
        super().__init__(assigner, normaliser_of_all, weight=weight, own=normaliser)
        self.on, self.target, self.mix, self.loss = on, target, mix, loss
        self.positive_weight, self.level_weights = positive_weight, level_weights
        self.name = "objectness" if on == "used" else "quality"

    @property
    def reads_boxes(self) -> bool:
        return self.target not in ("assigner", "one")

    def learns(self, head: Head, coder: Coder) -> bool:
        return isinstance(head, DenseHead) and head.has_quality

    def sums(self, learners: Learners, rows: Rows) -> Tensor:
        """On "used": every prior that is not ignored, with target 0 where it has no positive row, the highest where it
        has several.
        """
        logits, matches, target = rows.raw.quality, learners.matches, self._target(learners.matches, rows)
        assert logits is not None
        if self.on == "positives":
            value = torch.where(matches.positive, self._between(matches.pick(logits), target), 0.0)
            if self.level_weights:
                value = value * matches.pick(self._by_level(value, rows.raw.priors).expand_as(matches.used))
            return matches.sums(value) * self.weight
        value = torch.where(matches.used, self._between(logits, matches.on_priors(target)), 0.0)
        if self.positive_weight != 1:
            positive = matches.on_priors(torch.ones_like(target)) > 0
            value = torch.where(positive, value * self.positive_weight, value)
        if self.level_weights:
            value = value * self._by_level(value, rows.raw.priors).expand_as(matches.used)
        return matches.sums_of_priors(value) * self.weight

    def background_costs(self, logits: Tensor, priors: Priors) -> Tensor:
        """[B, N]: the loss of an objectness [B, N] at priors that are background."""
        value = self._between(logits, torch.zeros_like(logits))
        return value * self._by_level(value, priors) if self.level_weights else value

    def check(self, head: Head, coder: Coder, path: str) -> None:
        levels = len(head.priors.per_location) if isinstance(head, DenseHead) else 0
        if self.level_weights and len(self.level_weights) != levels:
            raise PartError(
                f"{path}.level_weights: expected a number for each of the head's {levels} levels, fine to coarse, got "
                f"{len(self.level_weights)}"
            )

    def without_quality(self, assigner: Assigner, head: Head, path: str) -> dict[str, object]:
        hard: dict[str, object] = {}
        if isinstance(head, DenseHead) and head.has_quality and self.target == "assigner" and not assigner.gives_pairs:
            hard = {f"{path}.target": "iou"} if self.on == "used" else {"head.quality": "none"}
        return {**hard, **super().without_quality(assigner, head, path)}

    def _target(self, matches: Matches, rows: Rows) -> Tensor:
        """[B, R] in 0..1."""
        if self.target == "assigner":
            assert matches.quality is not None
            return matches.quality
        if self.target == "one":
            return torch.ones_like(matches.positive, dtype=torch.float32)
        return (1 - self.mix) + self.mix * overlap_now(rows.boxes, rows.target_boxes, self.target)

    def _between(self, logits: Tensor, target: Tensor) -> Tensor:
        x = logits if logits.dtype == torch.float64 else logits.float()
        if self.loss == "bce":
            return F.binary_cross_entropy_with_logits(x, target.to(x), reduction="none")
        return 0.5 * (x.sigmoid() - target).square()

    def _by_level(self, like: Tensor, priors: Priors) -> Tensor:
        """[N]: each prior's weight, that of its level."""
        pairs = zip(priors.level_sizes, self.level_weights, strict=True)
        return torch.cat([like.new_full((size,), weight) for size, weight in pairs])
