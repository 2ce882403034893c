"""The criterion of two-stage heads: the proposer's terms, then those of a sample of its proposals (1506.01497)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.errors import mismatch
from torso.heads._roi_proposals import SecondStage, roi_priors
from torso.heads.faster_rcnn import FasterRCNNHead
from torso.models.detector import Detector
from torso.parts import Part, PartError, part, qualified_name
from torso.training.assigners._base import Assigner, matchable, with_a_row
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assignment import IGNORED
from torso.training.criteria._base import TERM_SLOTS, Criterion, Terms, TermSum
from torso.training.criteria._old_names import TWO_STAGE
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.cross_entropy import CrossEntropyLoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.matching import Matches, labels_of, with_centers_inside
from torso.training.samplers.random import RandomSampler
from torso.training.terms._base import Learners, Rows
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.types import Candidates, DensePredictions, Images, RoIPredictions


class _Sample(NamedTuple):
    """What the second stage learns from: boxes [B, S, 4], the row of Targets that each learns (-1 background, -2
    nothing: there were fewer rows than S), [B, S].
    """

    boxes: Tensor
    target: Tensor


class TwoStageCriterion(Criterion):
    """loss = terms of the first stage (rpn_cls, rpn_box) + cls + box of the second, over the proposals sampled.

    Args:
        first: the proposer's criterion.
        assigner: of proposals and, appended to them, of the ground truth itself (it must learn what it is to predict
            even while the proposer is poor). sampler: of what is assigned; a fixed number of rows an image.
        cls, box: the terms of the second stage, divided by the rows sampled unless they say otherwise.
        proposal_top, proposals: rows a level that enter the suppression of proposals in training, boxes that leave it.
    """

    reads = RoIPredictions
    slots = TERM_SLOTS
    old_arguments = TWO_STAGE

    def __init__(
        self,
        *,
        first: Part[DenseCriterion] = part(
            DenseCriterion,
            assigner=part(MaxIoUAssigner, positive=0.7, negative=0.3, rescue=True, rescue_above=0.3),
            cls=part(ClassificationTerm, loss=part(BCELoss)),
            box=part(BoxTerm, loss=part(SmoothL1Loss, beta=1 / 9)),
            sampler=part(RandomSampler, number=256, positive_share=0.5),
            normaliser="sampled",
        ),
        assigner: Part[Assigner] = part(MaxIoUAssigner, positive=0.5, negative=0.5, rescue=False),
        sampler: Part[RandomSampler] = part(RandomSampler, number=512, positive_share=0.25),
        cls: Part[ClassificationTerm] = part(ClassificationTerm, loss=part(CrossEntropyLoss)),
        box: Part[BoxTerm] = part(BoxTerm, loss=part(SmoothL1Loss, beta=1 / 9)),
        proposal_top: int = 2000,
        proposals: int = 1000,
    ) -> None:
        super().__init__()
        if min(proposal_top, proposals) < 1:
            raise mismatch("TwoStageCriterion.proposal_top and .proposals", "1 or more each", (proposal_top, proposals))
        self.first, self.assigner, self.sampler = first.build(), assigner.build(), sampler.build()
        self.cls, self.box = cls.build(self.assigner, "sampled"), box.build(self.assigner, "sampled")
        self.proposal_top, self.proposals = proposal_top, proposals
        _check_assigner(self.assigner)
        _check_terms(self.cls, self.box)

    def forward(self, model: Detector, images: Images, targets: Targets) -> Terms:
        head, targets = _two_stages(model), with_a_row(targets)
        features = model.features(images)
        raw, proposals = head.propose(features, images, top=self.proposal_top, keep=self.proposals)
        terms = {f"rpn_{name}": term for name, term in self.first.terms(raw, targets, head.proposer).items()}
        sample = self.sample(proposals, targets, holds_center=head.coder.holds_center)
        second = head.classify(features, sample.boxes)
        return {**terms, **self._second(second, sample, targets, head)}

    def check(self, model: Detector) -> None:
        super().check(model)
        head = _two_stages(model)
        try:
            self.first.check_head(head.proposer)
        except PartError as error:
            paths = {"head": "head.proposer", "criterion": "criterion.first"}
            raise error.within(paths, "the proposer: {}") from None
        for path, term in (("criterion.cls", self.cls), ("criterion.box", self.box)):
            term.check(head, head.coder, path)
            if hard := term.without_quality(self.assigner, head, path):
                raise PartError(
                    f"{type(self.assigner).__name__} gives no soft targets, which the second stage is to learn from",
                    remedies=[hard],
                )

    @torch.no_grad()
    def sample(self, proposals: Candidates, targets: Targets, *, holds_center: bool = False) -> _Sample:
        """Proposals and ground truth, assigned and sampled; S is fixed by the sampler and the number of rows.

        holds_center: of the head's coder; positives whose centre lies outside their target are then ignored.
        """
        boxes = torch.cat([proposals.boxes, targets.boxes.to(proposals.boxes)], dim=1)
        real = torch.cat([proposals.scores > 0, matchable(targets)], dim=1)
        priors = roi_priors(boxes)
        answer = self.assigner(priors, targets)
        assigned = (with_centers_inside(answer, priors, targets) if holds_center else answer).target
        rows, drawn = self.sampler.draw(torch.where(real, assigned, IGNORED))
        boxes = boxes.gather(1, rows[..., None].expand(-1, -1, 4))
        return _Sample(boxes, torch.where(drawn, assigned.gather(1, rows), IGNORED))

    def _second(self, second: SecondStage, sample: _Sample, targets: Targets, head: FasterRCNNHead) -> Terms:
        """Terms of the sample: its boxes are the priors of a dense prediction, background the last class."""
        row, positive = sample.target.clamp(min=0), sample.target >= 0
        one_level = torch.zeros_like(row[0])
        matches = Matches(None, row, positive, sample.target != IGNORED, None, None, one_level, 1)
        learners = Learners(matches, targets, head.num_classes, head.num_classes + 1, head.num_classes)
        rows = _rows(second, sample, labels_of(matches, targets, head.num_classes, 0), targets, head, self._at_boxes)
        return {
            term.name: TermSum(term.total(learners, rows)[0], term.count(learners)[0]) for term in (self.cls, self.box)
        }

    @property
    def _at_boxes(self) -> bool:
        return self.cls.reads_boxes or self.box.reads_boxes


def _rows(
    second: SecondStage, sample: _Sample, labels: Tensor, targets: Targets, head: FasterRCNNHead, at_boxes: bool
) -> Rows:
    """What the second stage says of the labels' boxes. Off the positives a unit box learns a unit box, so that values
    and gradients stay finite.
    """
    positive = (sample.target >= 0)[..., None]
    unit = torch.ones_like(sample.boxes[..., 2:])
    unit = torch.cat([torch.zeros_like(unit), unit], dim=-1)
    matched = targets.boxes.gather(1, sample.target.clamp(min=0)[..., None].expand(-1, -1, 4))
    matched = torch.where(positive, matched.to(unit), unit)
    priors = roi_priors(torch.where(positive, sample.boxes, unit))
    index = torch.arange(labels.shape[1], device=labels.device).expand_as(labels)
    codes = head.codes_of(second.codes, index, labels)
    spread = None if second.log_variance is None else head.codes_of(second.log_variance, index, labels)
    boxes = head.coder.decode(codes, priors) if at_boxes else None
    raw = DensePredictions(second.logits, codes, priors, None, spread)
    return Rows(raw, [second.logits], codes, spread, boxes, matched, priors, head.coder)


def _two_stages(model: Detector) -> FasterRCNNHead:
    assert isinstance(model.head, FasterRCNNHead)
    return model.head


def _check_assigner(assigner: Assigner) -> None:
    """A rule that looks at maps may have been meant for the proposer; YOLO's wants a head of its own line there."""
    if not assigner.needs_predictions and not assigner.gives_quality and not assigner.needs_grid:
        return
    kind, _, name = qualified_name(type(assigner)).partition(".")
    proposer = {"criterion.assigner": "max_iou", "criterion.first.assigner": name}
    raise PartError(
        f"{type(assigner).__name__} assigns cells of feature maps, but the second stage, whose assigner this is, "
        "assigns boxes",
        remedies=[
            {"criterion.assigner": "max_iou"},
            {"criterion.assigner": "ssd"},
            *([proposer] if kind == "assigners" and not assigner.at_cell else []),
        ],
    )


def _check_terms(cls: ClassificationTerm, box: BoxTerm) -> None:
    """The second stage tells classes from background by one softmax, and counts all boxes alike."""
    if not cls.loss.softmax:
        raise PartError(
            f"{type(cls.loss).__name__} is a loss for sigmoid scores, but the second stage tells classes from "
            "background by softmax",
            remedies=[{"criterion.cls.loss": "cross_entropy"}],
        )
    if cls.on != "used":
        raise PartError(
            "with criterion.cls.on=positives nothing in the second stage learns background",
            remedies=[{"criterion.cls.on": "used"}],
        )
    if box.weighting != "none":
        raise PartError(
            f"criterion.box.weighting={box.weighting} weighs the boxes of a dense head; those of a second stage count "
            "alike",
            remedies=[{"criterion.box.weighting": "none"}],
        )
