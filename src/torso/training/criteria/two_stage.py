"""The criterion of two-stage heads: the proposer's terms, then those of a sample of its proposals (1506.01497)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.heads._roi_proposals import SecondStage, roi_priors
from torso.heads.faster_rcnn import FasterRCNNHead
from torso.models.detector import Detector
from torso.parts import Part, PartError, part, qualified_name
from torso.training.assigners._base import Assigner, matchable, with_a_row
from torso.training.assigners._sayable import sayable
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assignment import IGNORED
from torso.training.criteria._base import Criterion, Term, Terms
from torso.training.criteria._box_loss_checks import check_box_loss
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses._base import BoxLoss, ClassLoss, UncertainBoxLoss
from torso.training.losses.bce import BCELoss
from torso.training.losses.cross_entropy import CrossEntropyLoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.samplers.random import RandomSampler
from torso.types import Candidates, Images

# What the flags of a dense model are called for the proposer of a two-stage one.
_PROPOSERS = {
    "--criterion.": "--criterion.first.",
    "--assigner": "--criterion.first.assigner",
    "--cls-loss": "--criterion.first.cls_loss",
    "--box-loss": "--criterion.first.box_loss",
    "--sampler": "--criterion.first.sampler",
    "--head.": "--head.proposer.",
}


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
        cls_loss, box_loss: of the second stage; both sums are divided by the rows sampled. box_weight: a factor.
        proposal_top, proposals: rows a level that enter the suppression of proposals in training, boxes that leave it.
    """

    def __init__(
        self,
        *,
        first: Part[DenseCriterion] = part(
            DenseCriterion,
            assigner=part(MaxIoUAssigner, positive=0.7, negative=0.3, rescue=True, rescue_above=0.3),
            cls_loss=part(BCELoss),
            box_loss=part(SmoothL1Loss, beta=1 / 9),
            sampler=part(RandomSampler, number=256, positive_share=0.5),
            normaliser="sampled",
        ),
        assigner: Part[Assigner] = part(MaxIoUAssigner, positive=0.5, negative=0.5, rescue=False),
        sampler: Part[RandomSampler] = part(RandomSampler, number=512, positive_share=0.25),
        cls_loss: Part[ClassLoss] = part(CrossEntropyLoss),
        box_loss: Part[BoxLoss] = part(SmoothL1Loss, beta=1 / 9),
        box_weight: float = 1.0,
        proposal_top: int = 2000,
        proposals: int = 1000,
    ) -> None:
        super().__init__()
        if min(proposal_top, proposals) < 1 or not box_weight >= 0:
            raise PartError(
                "the two-stage criterion wants proposal_top >= 1, proposals >= 1 and box_weight >= 0; "
                f"{proposal_top}, {proposals} and {box_weight} came"
            )
        self.first, self.assigner, self.sampler = first.build(), assigner.build(), sampler.build()
        self.cls_loss, self.box_loss, self.box_weight = cls_loss.build(), box_loss.build(), box_weight
        self.proposal_top, self.proposals = proposal_top, proposals
        _check_parts(self.assigner, self.cls_loss)

    def forward(self, model: Detector, images: Images, targets: Targets) -> Terms:
        head, targets = _two_stage_head(model), with_a_row(targets)
        features = model.features(images)
        raw, proposals = head.propose(features, images, top=self.proposal_top, keep=self.proposals)
        terms = {f"rpn_{name}": term for name, term in self.first.terms(raw, targets, head.proposer).items()}
        sample = self.sample(proposals, targets, holds_center=head.coder.holds_center)
        second = head.classify(features, sample.boxes)
        return {**terms, **self._second(second, sample, targets, head)}

    def check(self, model: Detector) -> None:
        head = _two_stage_head(model)
        _check_first(self.first, head)
        check_box_loss(self.box_loss, head, head.coder)

    @torch.no_grad()
    def sample(self, proposals: Candidates, targets: Targets, *, holds_center: bool = False) -> _Sample:
        """Proposals and ground truth, assigned and sampled; S is fixed by the sampler and the number of rows.

        holds_center: of the head's coder; positives whose centre lies outside their truth are then ignored.
        """
        boxes = torch.cat([proposals.boxes, targets.boxes.to(proposals.boxes)], dim=1)
        real = torch.cat([proposals.scores > 0, matchable(targets)], dim=1)
        priors = roi_priors(boxes)
        answer = self.assigner(priors, targets)
        assigned = (sayable(answer, priors, targets) if holds_center else answer).target
        rows, drawn = self.sampler.draw(torch.where(real, assigned, IGNORED))
        boxes = boxes.gather(1, rows[..., None].expand(-1, -1, 4))
        return _Sample(boxes, torch.where(drawn, assigned.gather(1, rows), IGNORED))

    def _second(self, second: SecondStage, sample: _Sample, targets: Targets, head: FasterRCNNHead) -> Terms:
        positive, used = sample.target >= 0, sample.target != IGNORED
        row = sample.target.clamp(min=0)
        labels = targets.labels.gather(1, row).clamp(max=head.num_classes - 1)
        cls = self.cls_loss(second.logits, torch.where(positive, labels, head.num_classes))
        rows = torch.arange(row.shape[1], device=row.device).expand_as(row)
        spread = None if second.log_variance is None else head.codes_of(second.log_variance, rows, labels)
        box = self._box_loss(head.codes_of(second.codes, rows, labels), spread, sample, targets, head)
        count = used.sum().to(cls)
        return {
            "cls": Term(torch.where(used, cls, 0.0).sum(), count),
            "box": Term(torch.where(positive, box, 0.0).sum() * self.box_weight, count),
        }

    def _box_loss(
        self, codes: Tensor, log_variance: Tensor | None, sample: _Sample, targets: Targets, head: FasterRCNNHead
    ) -> Tensor:
        """[B, S]; off the positives a unit box learns a unit box, so that values and gradients stay finite."""
        positive = (sample.target >= 0)[..., None]
        unit = torch.ones_like(sample.boxes[..., 2:])
        unit = torch.cat([torch.zeros_like(unit), unit], dim=-1)
        matched = targets.boxes.gather(1, sample.target.clamp(min=0)[..., None].expand(-1, -1, 4))
        matched = torch.where(positive, matched.to(unit), unit)
        priors = roi_priors(torch.where(positive, sample.boxes, unit))
        if self.box_loss.space == "boxes":
            return self.box_loss(head.coder.decode(codes, priors), matched)
        wanted = head.coder.encode(matched, priors)
        if isinstance(self.box_loss, UncertainBoxLoss):
            return self.box_loss(codes, wanted, log_variance)
        return self.box_loss(codes, wanted)


def _two_stage_head(model: Detector) -> FasterRCNNHead:
    if not isinstance(model.head, FasterRCNNHead):
        raise PartError(
            f"the two-stage criterion wants a head of two stages; {type(model.head).__name__} is none: train it with "
            "its own criterion, or choose --head faster_rcnn"
        )
    return model.head


def _check_first(first: DenseCriterion, head: FasterRCNNHead) -> None:
    """The proposer's check; its flags are those of a model that is dense, which here have longer names."""
    try:
        first.check_head(head.proposer)
    except PartError as error:
        said = str(error)
        for flag, path in _PROPOSERS.items():
            said = said.replace(flag, path)
        raise PartError(f"the proposer: {said}") from None


def _check_parts(assigner: Assigner, cls_loss: ClassLoss) -> None:
    """Combinations that cannot learn are refused with the reason."""
    if assigner.needs_predictions or assigner.gives_quality or assigner.needs_grid:
        raise PartError(
            f"{type(assigner).__name__} assigns places of feature maps, but the second stage, whose assigner this is, "
            f"assigns boxes: choose --assigner max_iou or ssd{_for_proposer(assigner)}"
        )
    if not cls_loss.softmax:
        raise PartError(
            f"{type(cls_loss).__name__} is a loss for sigmoid scores, but the second stage tells classes from "
            "background by softmax: choose --cls-loss cross_entropy"
        )


def _for_proposer(assigner: Assigner) -> str:
    """How to say what was perhaps meant. YOLO's rules want a head of their own line."""
    kind, _, name = qualified_name(type(assigner)).partition(".")
    if kind != "assigners" or assigner.at_cell:
        return ""
    return f", or give it to the proposer: --criterion.first.assigner {name} in place of --assigner {name}"
