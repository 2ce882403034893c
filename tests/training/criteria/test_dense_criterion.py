"""The dense criterion: terms against the plain formula, normalisers, what is ignored, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training.criteria.settings import dense

from torso.data.targets import Targets
from torso.parts import PartError, part
from torso.training.assigners._base import Assigner
from torso.training.assigners.atss import ATSSAssigner
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assignment import Assignment
from torso.training.criteria._base import TermSum, loss_of
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.cross_entropy import CrossEntropyLoss
from torso.training.losses.focal import FocalLoss
from torso.training.losses.iou import GIoULoss
from torso.training.losses.l1 import L1Loss
from torso.training.samplers.random import RandomSampler
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.types import DensePredictions, FeatureSpec, Images, Priors
from torso.zoo.fcos import FCOSHead
from torso.zoo.retinanet import RetinaNetHead

SPECS = tuple(FeatureSpec(8, (s, s)) for s in (8, 16, 32, 64, 128))


def predictions(kind: type = RetinaNetHead, **more: Any) -> tuple[Any, DensePredictions]:
    torch.manual_seed(0)
    head = kind(SPECS, **{"num_classes": 3, "channels": 8, "tower": 1, **more})
    maps = [torch.randn(2, 8, -(-64 // s.stride), -(-64 // s.stride)) for s in SPECS]
    raw = head(maps, Images(torch.zeros(2, 3, 64, 64), torch.full((2, 2), 64.0), torch.ones(2, 4)))
    return head, raw._replace(logits=torch.randn_like(raw.logits), codes=torch.randn_like(raw.codes) * 0.3)


def targets() -> Targets:
    boxes = torch.tensor([[[4.0, 4, 40, 36], [20, 20, 60, 60]], [[8, 10, 30, 50], [0, 0, 1, 1]]])
    valid = torch.tensor([[True, True], [True, False]])
    return Targets(boxes, torch.tensor([[0, 2], [1, 0]]), valid, torch.zeros_like(valid))


@pytest.mark.parametrize("normaliser", ["positives", "image", "sampled"])
def test_terms_are_the_sums_of_the_papers(normaliser: Any) -> None:
    head, raw = predictions()
    terms = DenseCriterion(
        assigner=part(MaxIoUAssigner),
        cls=part(ClassificationTerm, loss=part(FocalLoss)),
        box=part(BoxTerm, loss=part(L1Loss)),
        normaliser=normaliser,
    ).terms(raw, targets(), head)
    assigned = MaxIoUAssigner()(raw.priors, targets()).target
    cls, box, positives, used = torch.zeros(2), torch.zeros(2), torch.zeros(2), torch.zeros(2)
    for i in range(2):
        for n, j in enumerate(assigned[i].tolist()):
            if j == -2:
                continue
            used[i] += 1
            label = targets().labels[i, j] if j >= 0 else torch.tensor(-1)
            cls[i] += FocalLoss()(raw.logits[i, n : n + 1], label[None])[0]
            if j >= 0:
                own = Priors(*(field[n : n + 1] for field in raw.priors[:3]), levels=())
                positives[i] += 1
                box[i] += L1Loss()(raw.codes[i, n : n + 1], head.coder.encode(targets().boxes[i, j : j + 1], own))[0]
    assert positives.min() > 0
    _, shares = loss_of(terms)
    divided = {
        "positives": lambda x: x.sum() / positives.sum(),
        "image": lambda x: (x / positives).mean(),
        "sampled": lambda x: x.sum() / used.sum(),
    }[normaliser]
    torch.testing.assert_close(shares["cls"], divided(cls), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shares["box"], divided(box), rtol=1e-4, atol=1e-5)


def test_boxes_weighed_by_quality_are_divided_by_its_sum() -> None:
    head, raw = predictions(FCOSHead)
    criterion = DenseCriterion(
        assigner=part(FCOSAssigner), box=part(BoxTerm, loss=part(GIoULoss), weighting="quality", weight=2.0)
    )
    term = criterion.terms(raw, targets(), head)["box"]
    assigned = FCOSAssigner()(raw.priors, targets())
    assert assigned.quality is not None
    matched = targets().boxes.gather(1, assigned.target.clamp(min=0)[..., None].expand(-1, -1, 4))
    loss = GIoULoss()(head.coder.decode(raw.codes, raw.priors), matched)
    want = torch.where(assigned.target >= 0, loss * assigned.quality, 0.0).sum()
    torch.testing.assert_close(term.total, 2 * want)
    torch.testing.assert_close(term.count, assigned.quality.sum())


def test_micro_batches_add_up_to_the_batch() -> None:
    """Sums and counts apart: the effective batch has one normaliser, whatever it was cut into."""
    head, raw = predictions()
    criterion = DenseCriterion()
    whole = criterion.terms(raw, targets(), head)
    halves = []
    for i in range(2):
        own = raw._replace(logits=raw.logits[i : i + 1], codes=raw.codes[i : i + 1])
        halves.append(criterion.terms(own, Targets(*(x[i : i + 1] for x in targets()[:4])), head))
    for name, term in whole.items():
        joined = TermSum(sum(h[name].total for h in halves), sum(h[name].count for h in halves))  # type: ignore[arg-type]
        torch.testing.assert_close(joined.total, term.total)
        assert float(joined.count) == float(term.count)


def test_a_count_below_one_divides_by_one() -> None:
    nothing, half = torch.tensor(0.0), torch.tensor(0.5)
    total, shares = loss_of({"box": TermSum(nothing, nothing), "cls": TermSum(torch.tensor(3.0), half)})
    assert float(total) == 3.0
    assert float(shares["box"]) == 0.0


def test_the_sampler_chooses_what_counts() -> None:
    head, raw = predictions()
    torch.manual_seed(0)
    criterion = DenseCriterion(sampler=part(RandomSampler, number=20, positive_share=0.25), normaliser="sampled")
    assert float(criterion.terms(raw, targets(), head)["cls"].count) == 40


def test_ignored_priors_have_no_gradient_and_negatives_none_on_boxes() -> None:
    head, raw = predictions()
    raw.logits.requires_grad_()
    raw.codes.requires_grad_()
    total, _ = loss_of(DenseCriterion(assigner=part(MaxIoUAssigner, negative=0.2)).terms(raw, targets(), head))
    total.backward()
    assigned = MaxIoUAssigner(negative=0.2)(raw.priors, targets()).target
    assert (assigned == -2).any()
    assert raw.logits.grad is not None
    assert raw.codes.grad is not None
    assert not raw.logits.grad[assigned == -2].any()
    assert raw.logits.grad[assigned != -2].all()
    assert not raw.codes.grad[assigned < 0].any()


class Asking(Assigner):
    """An assigner that looks at the predictions."""

    needs_predictions = True

    def __call__(
        self, priors: Priors, targets: Targets, boxes: torch.Tensor | None = None, scores: torch.Tensor | None = None
    ) -> Assignment:
        assert boxes is not None
        assert scores is not None
        assert boxes.shape == (*scores.shape[:2], 4)
        assert not boxes.requires_grad
        assert not scores.requires_grad
        return Assignment(torch.full(boxes.shape[:2], -1))


def test_an_assigner_that_looks_at_predictions_gets_them_without_gradient() -> None:
    head, raw = predictions(FCOSHead, quality="none")
    assert float(DenseCriterion(assigner=part(Asking)).terms(raw, targets(), head)["box"].total) == 0


def test_softmax_heads_learn_background_in_their_last_column() -> None:
    head, raw = predictions(scores="softmax")
    nothing = targets()._replace(valid=torch.zeros(2, 2, dtype=torch.bool))
    term = DenseCriterion(cls=part(ClassificationTerm, loss=part(CrossEntropyLoss))).terms(raw, nothing, head)["cls"]
    want = -raw.logits.log_softmax(-1)[..., 3].sum()
    torch.testing.assert_close(term.total, want)


@pytest.mark.parametrize(
    ("head", "criterion", "message"),
    [
        ({}, {"cls.loss": part(CrossEntropyLoss)}, "loss for softmax scores, but the head has sigmoid"),
        ({"scores": "softmax"}, {}, r"set criterion\.cls\.loss='cross_entropy', or set head\.scores='sigmoid'"),
        ({"quality": "box"}, {}, r"the quality branch of the head learns from: set head\.quality='none', or"),
        ({}, {"box.weighting": "quality"}, r"weighting of the boxes learns from: set criterion\.box\.weighting='none'"),
    ],
)
def test_what_cannot_learn_is_refused(head: dict[str, Any], criterion: dict[str, Any], message: str) -> None:
    built, _ = predictions(**head)
    with pytest.raises(PartError, match=message):
        dense(criterion).check_head(built)


def test_any_assigner_with_quality_teaches_a_quality_branch() -> None:
    head, raw = predictions(FCOSHead)
    for assigner in (part(FCOSAssigner), part(ATSSAssigner)):
        assert float(DenseCriterion(assigner=assigner).terms(raw, targets(), head)["quality"].total.detach()) > 0


def test_background_in_a_crowd_is_ignored_on_demand_and_what_learns_an_object_there_is_not() -> None:
    head, raw = predictions()
    with_crowd = Targets(
        torch.cat([targets().boxes, torch.tensor([[[0.0, 0, 32, 64]], [[32, 32, 33, 33]]])], 1),
        torch.tensor([[0, 2, 1], [1, 0, 1]]),
        torch.tensor([[True, True, True], [True, False, False]]),  # the second image's crowd is padding
        torch.tensor([[False, False, True], [False, False, True]]),
    )
    plain, ignoring = (
        DenseCriterion(crowd=crowd).matches(raw, with_crowd, head) for crowd in ("background", "ignored")
    )
    gone = plain.used & ~ignoring.used
    x = raw.priors.centers_xy[:, 0]
    assert torch.equal(gone[0], plain.used[0] & ~plain.positive[0] & (x < 32))
    assert gone[0].any()
    assert (ignoring.positive[0] & (x < 32)).any()
    assert torch.equal(ignoring.positive & ignoring.used, plain.positive)
    assert not gone[1].any()
