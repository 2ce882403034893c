"""The criterion of dense heads: an assigner, a loss for classes, one for boxes, optionally quality and a sampler."""

from __future__ import annotations

from collections.abc import Sequence
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
        levels = head.levels(model.features(images))
        return self.terms(head.join(levels, images), targets, head, logits=[level.logits for level in levels])

    @property
    def counts_need_predictions(self) -> bool:
        return self.assigner.needs_predictions or not (self.sampler is None or self.sampler.fixed_count)

    @torch.no_grad()
    def counts(
        self, model: Detector, images: Images, targets: Targets, sizes_hw: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        head = self._dense_head(model)
        height, width = images.pixels.shape[-2:]
        return self._counts(self._sampled(self.assigner(head.priors(sizes_hw, (height, width)), targets)), head)

    def check(self, model: Detector) -> None:
        self.check_head(self._dense_head(model))

    def terms(
        self, raw: DensePredictions, targets: Targets, head: DenseHead, *, logits: Sequence[Tensor] | None = None
    ) -> Terms:
        """The terms of one dense prediction; two-stage criteria use it for their proposer.

        logits: raw.logits before its levels were joined. Where the assigner does not look at them either, a compiled
        step never joins them: 1 of RetinaNet's 56 ms (H200, 800x1344, batch 16).
        """
        self.check_head(head)
        with torch.no_grad():
            assignment = self._assign(raw, targets, head)
            counts = self._counts(assignment, head)
            row = assignment.target.clamp(min=0)
            positive, used = assignment.target >= 0, assignment.target != IGNORED
            background = head.num_classes if head.softmax else -1
            labels = torch.where(positive, targets.labels.gather(1, row).clamp(max=head.num_classes - 1), background)
            matched = targets.boxes.gather(1, row[..., None].expand(-1, -1, 4))
            matched = torch.where(positive[..., None], matched, raw.priors.boxes)  # a sane target off the positives
        cls = self._class_sums([raw.logits] if logits is None else logits, labels, used, assignment.quality)
        box = torch.where(positive, self._box_loss(raw, matched, head.coder), 0.0)
        totals = {"cls": self._total(cls, positive)}
        if self.box_weighting == "quality":
            assert assignment.quality is not None
            totals["box"] = (box * assignment.quality).sum() * self.box_weight
        else:
            totals["box"] = self._total(box, positive) * self.box_weight
        if raw.quality is not None:
            totals["quality"] = self._quality(raw.quality, assignment, positive)
        return {name: Term(total, counts[name]) for name, total in totals.items()}

    def _assign(self, raw: DensePredictions, targets: Targets, head: DenseHead) -> Assignment:
        if self.assigner.needs_predictions:
            boxes = head.coder.decode(raw.codes.detach(), raw.priors)
            scores = head.class_scores(raw.logits.detach(), None if raw.quality is None else raw.quality.detach())
            assignment = self.assigner(raw.priors, targets, boxes, scores)
        else:
            assignment = self.assigner(raw.priors, targets)
        return self._sampled(assignment)

    def _sampled(self, assignment: Assignment) -> Assignment:
        return assignment if self.sampler is None else self.sampler(assignment)

    def _counts(self, assignment: Assignment, head: DenseHead) -> dict[str, Tensor]:
        """What each term is divided by, float; by the terms' names, in their order."""
        target = assignment.target
        if self.normaliser == "image":
            count = torch.full((), float(target.shape[0]), device=target.device)
        else:
            count = (target != IGNORED if self.normaliser == "sampled" else target >= 0).sum().float()
        counts = {"cls": count, "box": count}
        if self.box_weighting == "quality":
            assert assignment.quality is not None
            counts["box"] = assignment.quality.sum()
        return {**counts, "quality": count} if head.has_quality else counts

    def _class_sums(self, logits: Sequence[Tensor], labels: Tensor, used: Tensor, quality: Tensor | None) -> Tensor:
        """[B, levels]: the class loss of each level, summed over its priors."""
        sizes = [x.shape[1] for x in logits]
        qualities = [None] * len(sizes) if quality is None else torch.split(quality, sizes, dim=1)
        rows = zip(logits, torch.split(labels, sizes, dim=1), torch.split(used, sizes, dim=1), qualities, strict=True)
        sums = []
        for x, label, use, q in rows:
            columns = self.cls_loss.per_column(x, label, q)
            sums.append(torch.where(use[..., None], columns, 0.0).flatten(1).sum(1))
        return torch.stack(sums, dim=1)

    def _box_loss(self, raw: DensePredictions, matched: Tensor, coder: Coder) -> Tensor:
        if self.box_loss.space == "boxes":
            return self.box_loss(coder.decode(raw.codes, raw.priors), matched)
        return self.box_loss(raw.codes, coder.encode(matched, raw.priors))

    def _quality(self, logits: Tensor, assignment: Assignment, positive: Tensor) -> Tensor:
        assert assignment.quality is not None
        entropy = F.binary_cross_entropy_with_logits(logits.float(), assignment.quality, reduction="none")
        return self._total(torch.where(positive, entropy, 0.0), positive) * self.quality_weight

    def _total(self, values: Tensor, positive: Tensor) -> Tensor:
        if self.normaliser == "image":
            return (values.sum(1) / positive.sum(1).clamp(min=1)).sum()
        return values.sum()

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
