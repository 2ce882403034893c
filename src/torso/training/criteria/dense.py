"""The criterion of dense heads: an assigner, a loss for classes, one for boxes, optionally quality and a sampler."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.geometry.coders._base import Coder
from torso.heads.dense import Dense as DenseHead
from torso.models.detector import Detector
from torso.parts import Part, PartError, part
from torso.training.assigners._base import Assigner
from torso.training.assigners.max_iou import MaxIoU
from torso.training.criteria._base import Criterion, Term, Terms
from torso.training.losses._base import BoxLoss, ClassLoss
from torso.training.losses.focal import Focal
from torso.training.losses.l1 import L1
from torso.training.samplers._base import Sampler
from torso.training.targets import IGNORED, Assignment, Targets
from torso.types import DensePredictions, Images


class Dense(Criterion):
    """loss = class term + box term (+ quality term), over the priors that the assigner does not ignore.

    Args:
        assigner, cls_loss, box_loss: parts.
        sampler: chooses among positives and background before anything is summed; None keeps all.
        normaliser: what the sums are divided by: "positives" of the effective batch (the papers), "sampled" rows,
            or "image": each picture's sum over its own positives, then the mean over pictures (torchvision).
        box_weighting: "quality" weighs each positive's box loss by its soft target and divides by their sum (FCOS).
        box_weight, quality_weight: factors of the terms.
    """

    def __init__(
        self,
        *,
        assigner: Part[Assigner] = part(MaxIoU),
        cls_loss: Part[ClassLoss] = part(Focal),
        box_loss: Part[BoxLoss] = part(L1),
        sampler: Part[Sampler] | None = None,
        normaliser: Literal["positives", "image", "sampled"] = "positives",
        box_weighting: Literal["none", "quality"] = "none",
        box_weight: float = 1.0,
        quality_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.assigner, self.cls_loss, self.box_loss = assigner.build(), cls_loss.build(), box_loss.build()
        self.sampler = sampler.build() if sampler else None
        self.normaliser, self.box_weighting = normaliser, box_weighting
        self.box_weight, self.quality_weight = box_weight, quality_weight

    def forward(self, model: Detector, images: Images, targets: Targets) -> Terms:
        head = self._dense_head(model)
        raw = model(images)
        assert isinstance(raw, DensePredictions)
        return self.terms(raw, targets, head)

    def check(self, model: Detector) -> None:
        self.check_head(self._dense_head(model))

    def terms(self, raw: DensePredictions, targets: Targets, head: DenseHead) -> Terms:
        """The terms of one dense prediction; two-stage criteria use it for their proposer."""
        self.check_head(head)
        with torch.no_grad():
            assignment = self._assign(raw, targets, head)
            row = assignment.target.clamp(min=0)
            positive, used = assignment.target >= 0, assignment.target != IGNORED
            background = head.num_classes if head.softmax else -1
            labels = torch.where(positive, targets.labels.gather(1, row).clamp(max=head.num_classes - 1), background)
            matched = targets.boxes.gather(1, row[..., None].expand(-1, -1, 4))
            matched = torch.where(positive[..., None], matched, raw.priors.boxes)  # a sane target off the positives
        columns = self.cls_loss.per_column(raw.logits, labels, assignment.quality)
        cls = torch.where(used[..., None], columns, 0.0).flatten(1)
        box = torch.where(positive, self._box_loss(raw, matched, head.coder), 0.0)
        terms = {"cls": self._term(cls, positive, used)}
        if self.box_weighting == "quality":
            assert assignment.quality is not None
            terms["box"] = Term((box * assignment.quality).sum(), assignment.quality.sum())
        else:
            terms["box"] = self._term(box, positive, used)
        terms["box"] = Term(terms["box"].total * self.box_weight, terms["box"].count)
        if raw.quality is not None:
            terms["quality"] = self._quality(raw.quality, assignment, positive, used)
        return terms

    def _assign(self, raw: DensePredictions, targets: Targets, head: DenseHead) -> Assignment:
        if self.assigner.needs_predictions:
            boxes = head.coder.decode(raw.codes.detach(), raw.priors)
            scores = head.class_scores(raw.logits.detach(), None if raw.quality is None else raw.quality.detach())
            assignment = self.assigner(raw.priors, targets, boxes, scores)
        else:
            assignment = self.assigner(raw.priors, targets)
        if self.sampler is not None:
            assignment = self.sampler(assignment)
        return assignment

    def _box_loss(self, raw: DensePredictions, matched: Tensor, coder: Coder) -> Tensor:
        if self.box_loss.space == "boxes":
            return self.box_loss(coder.decode(raw.codes, raw.priors), matched)
        return self.box_loss(raw.codes, coder.encode(matched, raw.priors))

    def _quality(self, logits: Tensor, assignment: Assignment, positive: Tensor, used: Tensor) -> Term:
        assert assignment.quality is not None
        entropy = F.binary_cross_entropy_with_logits(logits.float(), assignment.quality, reduction="none")
        term = self._term(torch.where(positive, entropy, 0.0), positive, used)
        return Term(term.total * self.quality_weight, term.count)

    def _term(self, values: Tensor, positive: Tensor, used: Tensor) -> Term:
        if self.normaliser == "image":
            per_image = values.sum(1) / positive.sum(1).clamp(min=1)
            return Term(per_image.sum(), per_image.new_full((), values.shape[0]))
        counted = used if self.normaliser == "sampled" else positive
        return Term(values.sum(), counted.sum().to(values))

    def check_head(self, head: DenseHead) -> None:
        """Raise PartError for combinations that cannot learn, with the reason and the remedy."""
        if self.cls_loss.softmax != head.softmax:
            wants, has = ("softmax", "sigmoid") if self.cls_loss.softmax else ("sigmoid", "softmax")
            raise PartError(
                f"{type(self.cls_loss).__name__} is a loss for {wants} scores, but the head has {has} scores: "
                f"choose --cls-loss {'cross_entropy' if head.softmax else 'focal'}, or --head.scores {wants}"
            )
        if self.assigner.gives_quality:
            return
        wanting = {
            "--head.quality none": head.has_quality,
            "--criterion.box_weighting none": self.box_weighting == "quality",
        }
        remedy = " ".join(flag for flag, needed in wanting.items() if needed)
        if remedy:
            raise PartError(
                f"{type(self.assigner).__name__} gives no soft targets, which the "
                f"{'quality branch of the head' if head.has_quality else 'weighting of the boxes'} learns from: "
                f"add {remedy}, or choose --assigner fcos or atss"
            )

    def _dense_head(self, model: Detector) -> DenseHead:
        if not isinstance(model.head, DenseHead):
            raise PartError(
                f"the dense criterion wants a dense head; {type(model.head).__name__} is none: train it with its own "
                "criterion, or choose a dense head (retinanet, fcos, atss, rpn)"
            )
        return model.head
