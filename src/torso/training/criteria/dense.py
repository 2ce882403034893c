"""The criterion of dense heads: who learns what, then a term each for classes, boxes, distributions and quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.heads.dense import DenseHead
from torso.models.detector import Detector
from torso.parts import Part, PartError, part
from torso.training.assigners._base import Assigner, with_a_row
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.combinations import Combination, check_combination
from torso.training.criteria._base import TERM_SLOTS, Criterion, Terms, TermSum
from torso.training.criteria._old_names import DENSE
from torso.training.matching import Crowd, Matcher, Matches
from torso.training.samplers._base import Sampler
from torso.training.terms._base import Learners, Normaliser, Rows, Term, class_learners
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.distribution import DistributionTerm
from torso.training.terms.quality import QualityTerm
from torso.types import DensePredictions, Images, Priors


class DenseCriterion(Criterion):
    """loss = cls + box (+ dfl) (+ quality or objectness) (+ others), over the priors that are not ignored.

    Args:
        sampler: chooses among positives and background before anything is summed; None keeps all.
        normaliser: what the sums are divided by: "positives" of the effective batch (the papers), "sampled" rows,
            "quality" the sum of the soft targets (TOOD), "targets" the ground truths, "batch" the images, or "image":
            each image's sum over its own positives, then the mean over images (torchvision). A term may have its own.
        per_level: every level is divided by its own count, then levels are added (YOLOv5); a term a level.
        crowd: what background inside a crowd's box is: "background" like any other (the papers), or "ignored"; what is
            cut off at the edge of a tile is marked as a crowd.
        cls, box, quality, distribution: the terms; the last two where the head has a branch, or a coder, for them.
        others: further terms, which read what the head predicts besides.
    """

    reads = DensePredictions
    slots = TERM_SLOTS
    old_arguments = DENSE

    def __init__(
        self,
        *,
        assigner: Part[Assigner] = part(MaxIoUAssigner),
        sampler: Part[Sampler] | None = None,
        normaliser: Normaliser = "positives",
        per_level: bool = False,
        crowd: Crowd = "background",
        cls: Part[ClassificationTerm] = part(ClassificationTerm),
        box: Part[BoxTerm] = part(BoxTerm),
        quality: Part[QualityTerm] = part(QualityTerm),
        distribution: Part[DistributionTerm] = part(DistributionTerm),
        others: tuple[Part[Term], ...] = (),
    ) -> None:
        super().__init__()
        self.match = Matcher(assigner.build(), sampler.build() if sampler else None, crowd=crowd, per_level=per_level)
        self.normaliser, self.per_level = normaliser, per_level
        self.cls, self.box = cls.build(self.assigner, normaliser), box.build(self.assigner, normaliser)
        self.quality = quality.build(self.assigner, normaliser)
        self.distribution = distribution.build(self.assigner, normaliser)
        self.others = tuple(term.build(self.assigner, normaliser) for term in others)
        if per_level and any(term.normaliser == "image" for term in self._all.values()):
            by_image = {"criterion.per_level": False}
            raise PartError("the dense criterion divides by level or by image, not both", remedies=[by_image])
        logged = [term.name for term in self._all.values()]
        if len(set(logged)) < len(logged):
            raise PartError(f"DenseCriterion.others: expected names that no other term has, got the terms {logged}")

    @property
    def assigner(self) -> Assigner:
        return self.match.assigner

    @property
    def _all(self) -> Mapping[str, Term]:
        """Every term by the path of its argument, in the order of the sums."""
        own = {"cls": self.cls, "box": self.box, "distribution": self.distribution, "quality": self.quality}
        return own | {f"others.{i}": term for i, term in enumerate(self.others)}

    def _taught(self, head: DenseHead) -> list[Term]:
        return [term for term in self._all.values() if term.learns(head, head.coder)]

    def forward(self, model: Detector, images: Images, targets: Targets) -> Terms:
        head = _dense(model)
        levels = head.levels(model.features(images))
        return self.terms(head.join(levels, images), targets, head, logits=[level.logits for level in levels])

    counts_need_sizes: ClassVar[bool] = True

    @property
    def counts_need_predictions(self) -> bool:
        return self.assigner.needs_predictions or self.box.weighting == "score" or self._counts_follow_the_draw

    @property
    def _counts_follow_the_draw(self) -> bool:
        """Whether a count depends on which rows the sampler keeps, and not only on how many of each kind."""
        sampler, counted = self.match.sampler, {term.counted for term in self._all.values()}
        if sampler is None:
            return False
        by_quality = self.box.weighting == "quality" or "quality" in counted
        of_positives = not sampler.keeps_positives and (by_quality or self.per_level)
        return not sampler.fixed_count or of_positives or (self.per_level and "sampled" in counted)

    @torch.no_grad()
    def counts(
        self, model: Detector, images: Images, targets: Targets, sizes_hw: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        if self.counts_need_predictions:
            return super().counts(model, images, targets, sizes_hw)
        head, targets = _dense(model), with_a_row(targets)
        height, width = images.pixels.shape[-2:]
        priors = head.priors(sizes_hw, (height, width))
        learners = self._learners(self.match(priors, targets, head.coder), priors, targets, head, None)
        counts = [(term.name, term.count(learners)) for term in self._taught(head)]
        return {key: value for name, group in counts for key, value in self._named(name, group).items()}

    def check(self, model: Detector) -> None:
        super().check(model)
        self.check_head(_dense(model))

    def check_head(self, head: DenseHead) -> None:
        """Raise PartError for combinations that cannot learn, with the reason and the remedy."""
        terms = {f"criterion.{path}": term for path, term in self._all.items()}
        named = (self.cls, self.box, self.quality)
        check_combination(Combination(head, self.assigner, self.match.sampler, self.normaliser, *named, terms))

    @torch.no_grad()
    def matches(self, raw: DensePredictions, targets: Targets, head: DenseHead) -> Matches:
        """Who learns what of a prediction."""
        boxes = scores = None
        if self.assigner.needs_predictions:
            boxes = head.coder.decode(raw.codes.detach(), raw.priors)
            quality = raw.quality.detach() if raw.quality is not None and self.assigner.fused_scores else None
            scores = head.class_scores(raw.logits.detach(), quality)

        def costs(matches: Matches) -> Tensor:
            """By the loss that teaches background."""
            if self.cls.on == "used":
                return self.cls.background_costs(class_learners(matches, targets, head), raw.logits.detach())
            assert raw.quality is not None
            return self.quality.background_costs(raw.quality.detach(), raw.priors)

        return self.match(raw.priors, targets, head.coder, boxes=boxes, scores=scores, costs=costs)

    def terms(
        self, raw: DensePredictions, targets: Targets, head: DenseHead, *, logits: Sequence[Tensor] | None = None
    ) -> Terms:
        """The terms of one dense prediction; two-stage criteria use it for their proposer.

        logits: raw.logits before its levels were joined, where a step is to be spared their joining.
        """
        targets, taught = with_a_row(targets), self._taught(head)
        with torch.no_grad():
            matches = self.matches(raw, targets, head)
            learners = self._learners(matches, raw.priors, targets, head, raw.logits)
            counts = [term.count(learners) for term in taught]
            priors = matches.priors(raw.priors)
            matched = targets.boxes.gather(1, matches.target[..., None].expand(-1, -1, 4))
            matched = torch.where(matches.positive[..., None], matched, priors.boxes)  # a sane target off the positives
        codes = matches.pick(raw.codes)
        boxes = head.coder.decode(codes, priors) if any(term.reads_boxes for term in taught) else None
        spread = None if raw.log_variance is None else matches.pick(raw.log_variance)
        rows = Rows(raw, [raw.logits] if logits is None else logits, codes, spread, boxes, matched, priors, head.coder)
        terms: Terms = {}
        for term, count in zip(taught, counts, strict=True):
            divisors, totals = self._named(term.name, count), self._named(term.name, term.total(learners, rows))
            terms |= {name: TermSum(total, divisors[name]) for name, total in totals.items()}
        return terms

    def _learners(
        self, matches: Matches, priors: Priors, targets: Targets, head: DenseHead, logits: Tensor | None
    ) -> Learners:
        """logits: None, where the network has not run."""
        scores = None
        if self.box.weighting == "score":
            assert logits is not None
            scores = head.class_scores(matches.pick(logits), None).amax(-1)
        weights = self.box.weights(matches, priors, targets, scores)
        return class_learners(matches, targets, head)._replace(weights=weights, weights_count=self.box.weights_count)

    def _named(self, name: str, values: Tensor) -> dict[str, Tensor]:
        """The scalars of a term [levels, or 1], by name."""
        return {f"level{i}_{name}" if self.per_level else name: v for i, v in enumerate(values.unbind())}


def _dense(model: Detector) -> DenseHead:
    assert isinstance(model.head, DenseHead)
    return model.head
