"""What is drawn in a dense criterion: not in crowds, by the cost of what learns background, and counted alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from training.criteria.settings import dense

from torso.data.targets import Targets
from torso.geometry.priors.anchors import Anchors
from torso.heads.dense import DenseHead
from torso.parts import part
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assigners.ssd import SSDAssigner
from torso.training.assignment import Assignment
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.cross_entropy import CrossEntropyLoss
from torso.training.losses.iou import GIoULoss
from torso.training.samplers._base import Sampler
from torso.training.samplers.hard_negative import HardNegativeSampler
from torso.training.samplers.random import RandomSampler
from torso.training.terms.classification import ClassificationTerm
from torso.types import DensePredictions, FeatureSpec, Images

SPECS = tuple(FeatureSpec(8, (s, s)) for s in (8, 16))
IMAGES = Images(torch.zeros(2, 3, 128, 128), torch.full((2, 2), 128.0), torch.ones(2, 4))
ANCHORS = part(Anchors, base_scale=3.0, octave_scales=1, ratios=(0.5, 1.0, 2.0), offset=0.5)
OBJECTNESS: dict[str, Any] = {
    "cls.loss": part(BCELoss), "cls.on": "positives", "quality.on": "used", "quality.target": "one",
}  # fmt: skip


def predictions(**head: Any) -> tuple[DenseHead, DensePredictions]:
    torch.manual_seed(0)
    shape = {"num_classes": 3, "channels": 8, "tower": 1, "finest": 8, "coarsest": 16, "priors": ANCHORS}
    made = DenseHead(SPECS, **{**shape, **head})
    return made, made([torch.randn(2, 8, 16, 16), torch.randn(2, 8, 8, 8)], IMAGES)


def targets() -> Targets:
    """Two objects and a crowd in the first image, one object in the second."""
    boxes = torch.tensor([[[10.0, 10, 60, 70], [60, 60, 120, 120], [60, 0, 128, 60]], [[20, 30, 50, 90]] * 3])
    valid = torch.tensor([[True, True, True], [True, False, False]])
    crowd = torch.tensor([[False, False, True], [False, False, False]])
    return Targets(boxes, torch.tensor([[0, 2, 1], [1, 1, 1]]), valid, crowd)


def in_the_crowd(raw: DensePredictions) -> Tensor:
    x, y = raw.priors.centers_xy.unbind(-1)
    return (x >= 60) & (y < 60)


def test_background_in_crowds_takes_no_place_among_the_hard() -> None:
    """All that scores high lies in the crowd: mined first and ignored afterwards, no background would be left."""
    head, raw = predictions(scores="softmax")
    hard = raw._replace(logits=raw.logits + 5.0 * (in_the_crowd(raw)[:, None] & (torch.arange(4) == 0)))
    criterion = DenseCriterion(
        assigner=part(SSDAssigner),
        cls=part(ClassificationTerm, loss=part(CrossEntropyLoss)),
        sampler=part(HardNegativeSampler),
        crowd="ignored",
        normaliser="sampled",
    )
    matches = criterion.matches(hard, targets(), head)
    positives = matches.positive.sum(1)
    background = matches.used & ~matches.positive
    assert positives.min() > 0
    assert torch.equal(background.sum(1), 3 * positives)
    assert not background[0, in_the_crowd(raw)].any()
    assert count_ahead(criterion, head, raw)["cls"] == criterion.terms(hard, targets(), head)["cls"].count


def test_random_background_is_drawn_outside_crowds() -> None:
    head, raw = predictions()
    criterion = DenseCriterion(
        assigner=part(MaxIoUAssigner), sampler=part(RandomSampler, number=40), crowd="ignored", normaliser="sampled",
    )  # fmt: skip
    matches = criterion.matches(raw, targets(), head)
    assert matches.used.sum(1).tolist() == [40, 40]
    assert float(count_ahead(criterion, head, raw)["cls"]) == 80


@pytest.mark.parametrize("sampler", [None, part(HardNegativeSampler, ratio=1000.0), part(RandomSampler, number=10_000)])
def test_where_all_background_is_kept_crowds_are_left_out_of_the_counts_too(sampler: Any) -> None:
    head, raw = predictions()
    counts = []
    for crowd in ("background", "ignored"):
        criterion = DenseCriterion(assigner=part(MaxIoUAssigner), sampler=sampler, crowd=crowd, normaliser="sampled")  # type: ignore[arg-type]
        counts.append(float(count_ahead(criterion, head, raw)["cls"]))
        assert counts[-1] == float(criterion.terms(raw, targets(), head)["cls"].count)
    assert counts[0] > counts[1]


def test_mining_follows_the_loss_that_teaches_background() -> None:
    """With classes learnt on positives alone it is the objectness, whatever the classes say."""
    head, raw = predictions(quality="box")
    assert raw.quality is not None
    quality, logits = torch.full_like(raw.quality, -8.0), torch.full_like(raw.logits, -8.0)
    far = ~dense(OBJECTNESS).matches(raw, targets(), head).positive
    claimed, classed = (far & (far.cumsum(1) > start) & (far.cumsum(1) <= start + 6) for start in (0, 30))
    quality[claimed], logits[classed] = 8.0, 8.0
    sampler = part(HardNegativeSampler, ratio=1.0, least=6)
    said = raw._replace(quality=quality, logits=logits)
    kept = dense({**OBJECTNESS, "sampler": sampler}).matches(said, targets(), head).used
    assert kept[claimed].all()
    classes = dense({"cls.loss": part(BCELoss), "quality.target": "iou", "sampler": sampler})
    by_classes = classes.matches(said, targets(), head).used
    assert by_classes[classed].all()


def test_the_cost_of_background_is_its_share_of_the_objectness() -> None:
    head, raw = predictions(quality="box")
    assert raw.quality is not None
    for loss in ("bce", "squared"):
        weights = {"quality.level_weights": (4.0, 1.0), "quality.positive_weight": 5.0}
        criterion = dense({**OBJECTNESS, "quality.loss": loss, **weights})
        nothing = targets()._replace(valid=torch.zeros(2, 3, dtype=torch.bool))
        total = criterion.terms(raw, nothing, head)["objectness"].total
        costs = criterion.quality.background_costs(raw.quality, raw.priors)
        torch.testing.assert_close(costs.sum(), total)


class Whatever(Sampler):
    """How much it keeps follows from nothing."""


def count_ahead(criterion: DenseCriterion, head: DenseHead, raw: DensePredictions) -> dict[str, Tensor]:
    model: Any = SimpleNamespace(head=head)
    return criterion.counts(model, IMAGES, targets(), [(h, w) for h, w, _ in raw.priors.levels])


@pytest.mark.parametrize(
    ("criterion", "drawn"),
    [
        ({}, False),
        ({"box.weighting": "quality"}, False),
        ({"sampler": part(RandomSampler)}, False),
        ({"sampler": part(RandomSampler), "normaliser": "sampled"}, False),
        ({"sampler": part(RandomSampler), "box.weighting": "quality"}, True),
        ({"sampler": part(RandomSampler), "normaliser": "quality"}, True),
        ({"sampler": part(RandomSampler), "quality.normaliser": "quality"}, True),
        ({"sampler": part(RandomSampler), "per_level": True}, True),
        ({"sampler": part(HardNegativeSampler), "box.weighting": "quality"}, False),
        ({"sampler": part(HardNegativeSampler), "normaliser": "quality"}, False),
        ({"sampler": part(HardNegativeSampler), "per_level": True}, False),
        ({"sampler": part(HardNegativeSampler), "per_level": True, "quality.normaliser": "sampled"}, True),
        ({"sampler": part(Whatever)}, True),
    ],
)
def test_counts_wait_for_the_draw_where_they_depend_on_it(criterion: dict[str, Any], drawn: bool) -> None:
    made = dense({"assigner": part(FCOSAssigner), "box.loss": part(GIoULoss), **criterion})
    assert made.counts_need_predictions is drawn


def test_which_positives_are_kept_is_the_samplers_to_say() -> None:
    target = torch.tensor([[0, 0, 0, 0, -1, -1, -1, -2]])
    loss = torch.rand(1, 8)
    assert HardNegativeSampler.keeps_positives
    assert not RandomSampler.keeps_positives
    torch.testing.assert_close((HardNegativeSampler(ratio=0.1)(Assignment(target), loss).target == 0), target == 0)
    assert int((RandomSampler(number=2)(Assignment(target)).target == 0).sum()) == 1
