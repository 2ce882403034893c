"""The classification term of dense heads and second stages: class scores against labels, hard or soft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from torso.bounds import NotNegative
from torso.geometry.boxes import OverlapKind, aligned_overlap
from torso.geometry.coders._base import Coder
from torso.heads._base import Head
from torso.parts import Part, PartError, part
from torso.training.assigners._base import Assigner
from torso.training.losses._base import ClassLoss
from torso.training.losses.focal import FocalLoss
from torso.training.matching import Matches, labels_of
from torso.training.terms._base import Learners, Normaliser, Rows, Term

ClassRows = Literal["used", "positives"]
ClassTarget = Literal["one", "iou", "assigner"]


class ClassificationTerm(Term):
    """The loss of class scores, over the rows that are used.

    Args:
        on: "used" teaches background too; "positives" leaves that to the objectness (YOLO).
        target: of a positive's class: "one", "iou" of its box as it is now (QFL, VFL), or the "assigner"'s quality
            (YOLOX, TOOD). None: the assigner's where that is a score, else "iou" for losses made for soft targets, else
            "one". A loss that takes no quality learns "one"; then a quality branch has to learn the assigner's score.
        weight: factor of the term. normaliser: in place of the criterion's.
    """

    name = "cls"

    def __init__(
        self,
        assigner: Assigner,
        normaliser_of_all: Normaliser,
        *,
        loss: Part[ClassLoss] = part(FocalLoss),
        on: ClassRows = "used",
        target: ClassTarget | None = None,
        weight: NotNegative = 1.0,
        normaliser: Normaliser | None = None,
    ) -> None:
        super().__init__(assigner, normaliser_of_all, weight=weight, own=normaliser)
        self.loss, self.on, self.asked = loss.build(), on, target
        self.target = self.target_of(assigner)

    def target_of(self, assigner: Assigner) -> ClassTarget:
        """What the class of a positive should score: what was asked for, or what loss and assigner are made for."""
        if self.asked is not None:
            return self.asked
        if assigner.quality_is_score and self.loss.takes_quality:
            return "assigner"
        return "iou" if self.loss.soft else "one"

    @property
    def reads_boxes(self) -> bool:
        return self.target == "iou"

    @property
    def counted(self) -> Normaliser:
        if self.loss.per_element:
            return "positives" if self.on == "positives" else "sampled"
        return self.normaliser

    def count(self, learners: Learners) -> Tensor:
        count = super().count(learners)
        return count * learners.columns if self.loss.per_element else count

    def sums(self, learners: Learners, rows: Rows) -> Tensor:
        matches = learners.matches
        used = matches.positive if self.on == "positives" else matches.used
        labels = labels_of(matches, learners.targets, learners.num_classes, learners.background)
        quality = self._soft_target(matches, rows)
        if matches.prior is None and matches.levels == 1 and not self.loss.per_element:
            return self._by_level(rows.levels, labels, quality, used) * self.weight
        values = self.loss.masked(matches.pick(rows.raw.logits), labels, quality, used).sum(-1)
        return matches.sums(values if matches.weight is None else values * matches.weight) * self.weight

    def background_costs(self, learners: Learners, logits: Tensor) -> Tensor:
        """[B, N]: what each prior with logits [B, N, columns] costs now as what it is, background for most."""
        labels = labels_of(learners.matches, learners.targets, learners.num_classes, learners.background)
        return self.loss(logits, labels)

    def check(self, head: Head, coder: Coder, path: str) -> None:
        """A soft target that was asked for, and that the loss would not look at."""
        if self.asked not in ("iou", "assigner") or self.loss.takes_quality:
            return
        scores = {"head.scores": "sigmoid"} if getattr(head, "softmax", False) else {}
        raise PartError(
            f"{type(self.loss).__name__} teaches every positive's class to score 1, but {path}.target is "
            f"{self.asked!r}",
            remedies=[{**scores, f"{path}.loss": "qfl"}, {f"{path}.target": "one"}],
        )

    def without_quality(self, assigner: Assigner, head: Head, path: str) -> dict[str, object]:
        hard: dict[str, object] = {f"{path}.target": "one"} if self.target_of(assigner) == "assigner" else {}
        return {**hard, **super().without_quality(assigner, head, path)}

    def _soft_target(self, matches: Matches, rows: Rows) -> Tensor | None:
        """[B, R] what the class of a positive should score, None for 1."""
        if self.target == "iou":
            return overlap_now(rows.boxes, rows.target_boxes, "iou")
        return matches.quality if self.target == "assigner" else None

    def _by_level(self, levels: Sequence[Tensor], labels: Tensor, quality: Tensor | None, used: Tensor) -> Tensor:
        """[B, 1] where rows are priors and all levels one sum: then no level has to be joined with the others, which
        costs a compiled step of RetinaNet 1 of its 56 ms (H200, 800x1344, batch 16).
        """
        sizes = [x.shape[1] for x in levels]
        qualities = [None] * len(sizes) if quality is None else torch.split(quality, sizes, dim=1)
        split = zip(levels, torch.split(labels, sizes, dim=1), qualities, torch.split(used, sizes, dim=1), strict=True)
        sums = [self.loss.masked(*level).flatten(1).sum(1) for level in split]
        return torch.stack(sums, dim=1).sum(1, keepdim=True)


@torch.no_grad()
def overlap_now(boxes: Tensor | None, target_boxes: Tensor, kind: OverlapKind) -> Tensor:
    """[B, R] in 0..1: how well boxes fit as they are now."""
    assert boxes is not None
    return aligned_overlap(boxes, target_boxes, kind).clamp(min=0)
