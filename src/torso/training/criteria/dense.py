"""The criterion of dense heads: an assigner, a loss for classes, one for boxes, optionally quality and a sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.boxes import area
from torso.heads.dense import DenseHead
from torso.models.detector import Detector
from torso.parts import Part, PartError, part
from torso.training.assigners._base import Assigner, with_a_row
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.criteria._base import Criterion, Term, Terms
from torso.training.criteria._dense_checks import check_combination, check_numbers
from torso.training.criteria._dense_counts import counts_follow_the_draw, counts_of, divided_by_picture
from torso.training.criteria._dense_matching import matched, matched_ahead
from torso.training.criteria._dense_sums import class_sums, labels_of, overlap_now, weighed
from torso.training.criteria._dense_words import (
    BoxWeighting,
    ClassRows,
    ClassTarget,
    Crowd,
    Normaliser,
    QualityLoss,
    QualityRows,
    QualityTarget,
)
from torso.training.criteria._matches import Matches
from torso.training.criteria._objectness import quality_sums
from torso.training.losses._base import BoxLoss, ClassLoss, DistributionLoss, UncertainBoxLoss
from torso.training.losses.dfl import DFLLoss
from torso.training.losses.focal import FocalLoss
from torso.training.losses.l1 import L1Loss
from torso.training.samplers._base import Sampler
from torso.types import DensePredictions, Images, Priors


class DenseCriterion(Criterion):
    """loss = class + box (+ dfl) (+ quality or objectness), over the priors that the assigner does not ignore.

    Args:
        assigner, cls_loss, box_loss: parts.
        sampler: chooses among positives and background before anything is summed; None keeps all.
        normaliser: what the sums are divided by: "positives" of the effective batch (the papers), "sampled" rows,
            "quality" the sum of the soft targets (TOOD), "targets" the ground truths, "batch" the pictures, or "image":
            each picture's sum over its own positives, then the mean over pictures (torchvision).
        quality_normaliser: of the quality or objectness term, where it has its own.
        per_level: every level is divided by its own count, then levels are added (YOLOv5); a term a level.
        cls_on: "used" teaches background too; "positives" leaves that to the objectness (YOLO).
        cls_target: of a positive's class: "one", "iou" of its box as it is now (QFL, VFL), or the "assigner"'s quality
            (YOLOX, TOOD). None: the assigner's where that is a score, else "iou" for losses made for soft targets, else
            "one". A loss that takes no quality learns "one"; then a quality branch has to learn the assigner's score.
        box_weighting: of each positive's box, "quality" by its soft target (FCOS), "score" by its best class score now
            (GFL), both divided by the sum of these weights; "size" by 2 - area / picture (darknet's YOLOv3).
        quality_on: "positives" (centerness), or "used": positives against background, the term `objectness` (YOLO).
        quality_target: of a positive's quality: the "assigner"'s, "one", or an overlap of its box as it is now, which
            enters as (1 - quality_mix) + quality_mix * overlap.
        quality_loss: binary cross entropy, or "squared" error of the sigmoid, halved (YOLOv2).
        positive_weight: of positives in the objectness (YOLOv2's object_scale 5).
        level_weights: of the levels in the quality or objectness term, fine to coarse (YOLOv5 4, 1, 0.4); () is ones.
        crowd: what background inside a crowd's box is: "background" like any other (the papers), or "ignored"; what is
            cut off at the edge of a tile is marked as a crowd.
        dfl_loss: of a head whose coder predicts distributions.
        cls_weight, box_weight, quality_weight, dfl_weight: factors of the terms.
    """

    def __init__(
        self,
        *,
        assigner: Part[Assigner] = part(MaxIoUAssigner),
        cls_loss: Part[ClassLoss] = part(FocalLoss),
        box_loss: Part[BoxLoss] = part(L1Loss),
        sampler: Part[Sampler] | None = None,
        normaliser: Normaliser = "positives",
        quality_normaliser: Normaliser | None = None,
        per_level: bool = False,
        cls_on: ClassRows = "used",
        cls_target: ClassTarget | None = None,
        box_weighting: BoxWeighting = "none",
        quality_on: QualityRows = "positives",
        quality_target: QualityTarget = "assigner",
        quality_mix: float = 1.0,
        quality_loss: QualityLoss = "bce",
        positive_weight: float = 1.0,
        level_weights: tuple[float, ...] = (),
        crowd: Crowd = "background",
        dfl_loss: Part[DistributionLoss] = part(DFLLoss),
        cls_weight: float = 1.0,
        box_weight: float = 1.0,
        quality_weight: float = 1.0,
        dfl_weight: float = 0.25,
    ) -> None:
        super().__init__()
        self.assigner, self.cls_loss, self.box_loss = assigner.build(), cls_loss.build(), box_loss.build()
        self.sampler, self.dfl_loss = sampler.build() if sampler else None, dfl_loss.build()
        self.crowd = crowd
        self.normaliser, self.quality_normaliser = normaliser, quality_normaliser or normaliser
        self.per_level, self.cls_on, self.box_weighting = per_level, cls_on, box_weighting
        self.asked_cls_target = cls_target
        self.quality_on, self.quality_target, self.quality_mix = quality_on, quality_target, quality_mix
        self.quality_loss, self.positive_weight, self.level_weights = quality_loss, positive_weight, level_weights
        self.cls_weight, self.box_weight = cls_weight, box_weight
        self.quality_weight, self.dfl_weight = quality_weight, dfl_weight
        check_numbers(self)

    @property
    def cls_target(self) -> ClassTarget:
        """What the class of a positive should score: what was asked for, or what the parts are made for."""
        if self.asked_cls_target is not None:
            return self.asked_cls_target
        if self.assigner.quality_is_score and self.cls_loss.takes_quality:
            return "assigner"
        return "iou" if self.cls_loss.soft else "one"

    def forward(self, model: Detector, images: Images, targets: Targets) -> Terms:
        head = self._dense_head(model)
        levels = head.levels(model.features(images))
        return self.terms(head.join(levels, images), targets, head, logits=[level.logits for level in levels])

    counts_need_sizes: ClassVar[bool] = True

    @property
    def counts_need_predictions(self) -> bool:
        return self.assigner.needs_predictions or self.box_weighting == "score" or counts_follow_the_draw(self)

    @torch.no_grad()
    def counts(
        self, model: Detector, images: Images, targets: Targets, sizes_hw: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        if self.counts_need_predictions:
            return super().counts(model, images, targets, sizes_hw)
        head, targets = self._dense_head(model), with_a_row(targets)
        height, width = images.pixels.shape[-2:]
        priors = head.priors(sizes_hw, (height, width))
        matches = matched_ahead(self, priors, targets, head)
        counts = counts_of(self, matches, self._weights(matches, None, priors, targets, head), targets, head)
        return {key: value for name, group in counts.items() for key, value in self._named(name, group).items()}

    def check(self, model: Detector) -> None:
        self.check_head(self._dense_head(model))

    def check_head(self, head: DenseHead) -> None:
        """Raise PartError for combinations that cannot learn, with the reason and the remedy."""
        check_combination(self, head)

    def terms(
        self, raw: DensePredictions, targets: Targets, head: DenseHead, *, logits: Sequence[Tensor] | None = None
    ) -> Terms:
        """The terms of one dense prediction; two-stage criteria use it for their proposer.

        logits: raw.logits before its levels were joined. Where nothing here looks at them joined either, a compiled
        step never joins them: 1 of RetinaNet's 56 ms (H200, 800x1344, batch 16).
        """
        self.check_head(head)
        targets = with_a_row(targets)
        with torch.no_grad():
            matches = matched(self, raw, targets, head)
            priors = matches.priors(raw.priors)
            truth = targets.boxes.gather(1, matches.target[..., None].expand(-1, -1, 4))
            truth = torch.where(matches.positive[..., None], truth, priors.boxes)  # a sane target off the positives
            weights = self._weights(matches, raw, raw.priors, targets, head)
            counts = counts_of(self, matches, weights, targets, head)
        codes = matches.pick(raw.codes)
        boxes = head.coder.decode(codes, priors) if self._looks_at_boxes else None
        sums = {"cls": self._class_sums(raw, logits, matches, targets, head, self._soft_target(matches, boxes, truth))}
        log_variance = None if raw.log_variance is None else matches.pick(raw.log_variance)
        box = self._box_loss(codes, boxes, truth, priors, head, log_variance)
        sums["box"] = weighed(box, matches, weights) * self.box_weight
        if head.coder.bins:
            dfl = self.dfl_loss(codes.reshape(*codes.shape[:-1], 4, -1), head.coder.bin_targets(truth, priors))
            sums["dfl"] = weighed(dfl, matches, weights) * self.dfl_weight
        if raw.quality is not None:
            sums[self.quality_name] = self._quality_sums(raw, raw.quality, matches, boxes, truth)
        return self._terms(sums, counts, matches.positive.sum(1))

    # how much who learns what weighs

    def _weights(
        self, matches: Matches, raw: DensePredictions | None, priors: Priors, targets: Targets, head: DenseHead
    ) -> Tensor | None:
        """[B, R] what each row's box counts, 0 off the positives; None where all positives count alike."""
        weights = matches.weight
        if self.box_weighting == "quality":
            weights = matches.quality
        elif self.box_weighting == "score":
            assert raw is not None
            weights = head.class_scores(matches.pick(raw.logits), None).amax(-1)
        elif self.box_weighting == "size":
            height, width, _ = priors.levels[0]
            picture = priors.strides_xy[0].prod() * (width * height)
            weights = (2 - area(targets.boxes) / picture).gather(1, matches.target)
        return None if weights is None else torch.where(matches.positive, weights, 0.0)

    def _soft_target(self, matches: Matches, boxes: Tensor | None, truth: Tensor) -> Tensor | None:
        """[B, R] what the class of a positive should score, None for 1."""
        if self.cls_target == "iou":
            return overlap_now(boxes, truth, "iou")
        return matches.quality if self.cls_target == "assigner" else None

    @property
    def _looks_at_boxes(self) -> bool:
        return (
            self.box_loss.space == "boxes"
            or self.cls_target == "iou"
            or (self.quality_target not in ("assigner", "one"))
        )

    # terms

    def _class_sums(
        self,
        raw: DensePredictions,
        logits: Sequence[Tensor] | None,
        matches: Matches,
        targets: Targets,
        head: DenseHead,
        quality: Tensor | None,
    ) -> Tensor:
        """[B, levels]: level by level, before they are joined, where nothing needs them joined."""
        used = matches.positive if self.cls_on == "positives" else matches.used
        joined = matches.prior is not None or self.cls_loss.per_element or self.per_level
        whole = raw.logits if joined else [raw.logits] if logits is None else logits
        labels = labels_of(matches, targets, head)
        return class_sums(self.cls_loss, whole, labels, quality, used, matches) * self.cls_weight

    def _box_loss(
        self,
        codes: Tensor,
        boxes: Tensor | None,
        truth: Tensor,
        priors: Priors,
        head: DenseHead,
        log_variance: Tensor | None,
    ) -> Tensor:
        if self.box_loss.space == "boxes":
            assert boxes is not None
            return self.box_loss(boxes, truth)
        wanted = head.coder.encode(truth, priors)
        if isinstance(self.box_loss, UncertainBoxLoss):
            return self.box_loss(codes, wanted, log_variance)
        return self.box_loss(codes, wanted)

    def _quality_sums(
        self, raw: DensePredictions, logits: Tensor, matches: Matches, boxes: Tensor | None, truth: Tensor
    ) -> Tensor:
        if self.quality_target == "assigner":
            assert matches.quality is not None
            wanted = matches.quality
        elif self.quality_target == "one":
            wanted = torch.ones_like(matches.positive, dtype=torch.float32)
        else:
            wanted = (1 - self.quality_mix) + self.quality_mix * overlap_now(boxes, truth, self.quality_target)
        sums = quality_sums(
            logits,
            wanted,
            matches,
            raw.priors,
            on=self.quality_on,
            loss=self.quality_loss,
            positive_weight=self.positive_weight,
            level_weights=self.level_weights,
        )
        return sums * self.quality_weight

    @property
    def quality_name(self) -> str:
        """The term of the head's quality branch."""
        return "objectness" if self.quality_on == "used" else "quality"

    def _terms(self, sums: dict[str, Tensor], counts: dict[str, Tensor], positives: Tensor) -> Terms:
        terms: Terms = {}
        for name, values in sums.items():
            total = values.sum(0)
            if divided_by_picture(self, name):
                total = (values / positives[:, None].clamp(min=1)).sum(0)
            count = self._named(name, counts[name])
            terms |= {key: Term(value, count[key]) for key, value in self._named(name, total).items()}
        return terms

    def _named(self, name: str, values: Tensor) -> dict[str, Tensor]:
        """The scalars of a term [levels, or 1], by name."""
        return {f"level{i}_{name}" if self.per_level else name: v for i, v in enumerate(values.unbind())}

    def _dense_head(self, model: Detector) -> DenseHead:
        if not isinstance(model.head, DenseHead):
            raise PartError(
                f"the dense criterion wants a dense head; {type(model.head).__name__} is none: train it with its own "
                "criterion, or choose a dense head (retinanet, fcos, atss, rpn)"
            )
        return model.head
