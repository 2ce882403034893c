"""The two-stage criterion: what it samples, that every parameter learns, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from training.criteria.settings import changed

from torso.backbones.timm import Timm
from torso.data.targets import Targets
from torso.heads._roi_proposals import SecondStage, roi_priors
from torso.heads.faster_rcnn import FasterRCNNHead
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import PartError, find, part
from torso.training.assigners.atss import ATSSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assignment import IGNORED
from torso.training.criteria._base import loss_of
from torso.training.criteria.dense import DenseCriterion
from torso.training.criteria.two_stage import TwoStageCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.focal import FocalLoss
from torso.training.losses.iou import GIoULoss
from torso.training.losses.l1 import L1Loss
from torso.training.recipes.faster_rcnn import faster_rcnn
from torso.training.samplers.random import RandomSampler
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.types import Candidates, Images
from torso.zoo.fcos import FCOSHead

ALL = part(RandomSampler, number=100_000, positive_share=1.0)


def _model(**head: Any) -> Detector:
    torch.manual_seed(0)
    return Detector(
        backbone=part(Timm, name="test_resnet", frozen_norm=True),
        neck=part(FPN, channels=8, finest=4, coarsest=64, extra="pool"),
        head=part(FasterRCNNHead, **{"num_classes": 3, "channels": 16, **head}),
    )


def _images() -> Images:
    pixels = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(1)) * 255
    return Images(pixels, torch.tensor([[96.0, 128.0], [80.0, 101.0]]), torch.zeros(2, 4))


def _targets(counts: tuple[int, int] = (3, 2), crowd: tuple[int, int] = (0, 0), rows: int = 6) -> Targets:
    draw = torch.Generator().manual_seed(2)
    corner = torch.rand(2, rows, 2, generator=draw) * 50
    boxes = torch.cat([corner, corner + 8 + torch.rand(2, rows, 2, generator=draw) * 40], dim=-1)
    number = torch.arange(rows)
    valid, crowds = number < torch.tensor(counts)[:, None], number < torch.tensor(crowd)[:, None]
    boxes = torch.where(valid[..., None], boxes, 0.0)
    return Targets(boxes, torch.randint(0, 3, (2, rows), generator=draw), valid, crowds)


CASES = {
    "usual": _targets(),
    "one empty": _targets((0, 2)),
    "all empty": _targets((0, 0)),
    "crowd only": _targets((2, 2), (2, 2)),
    "full": _targets((6, 6)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("args", [{}, {"box.loss": part(GIoULoss)}], ids=["codes", "boxes"])
def test_every_parameter_learns_and_all_is_finite(name: str, args: dict[str, Any]) -> None:
    model = _model().train()
    terms = changed(part(TwoStageCriterion), args).build()(model, _images(), CASES[name])
    assert sorted(terms) == ["box", "cls", "rpn_box", "rpn_cls"]
    loss, _ = loss_of(terms)
    loss.backward()
    assert loss.isfinite()
    for parameter_name, p in model.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, parameter_name
            assert p.grad.isfinite().all(), parameter_name
    positive = name not in ("all empty", "crowd only")
    assert (terms["box"].total > 0) == (terms["rpn_box"].total > 0) == positive
    assert bool(model.head.box_out.weight.grad.abs().sum() > 0) == positive


def _proposals(boxes: Tensor) -> Candidates:
    rows = boxes.shape[:2]
    real = (boxes[..., 2:] > boxes[..., :2]).all(-1)
    return Candidates(boxes, real.float(), torch.zeros(rows).long(), torch.zeros(rows).long())


def test_ground_truth_is_sampled_beside_proposals() -> None:
    far = torch.tensor([200.0, 200, 220, 220]).expand(2, 50, 4).clone()
    far[1, 10:] = 0  # only ten proposals in the second image
    targets = _targets((3, 2), (1, 0))
    criterion = TwoStageCriterion(sampler=part(RandomSampler, number=20, positive_share=0.25))
    sample = criterion.sample(_proposals(far), targets)
    assert sample.boxes.shape == (2, 20, 4)
    assert sample.target[0].sort(descending=True).values.tolist() == [2, 1] + [-1] * 18  # not the crowd, row 0
    assert sample.target[1].sort(descending=True).values.tolist() == [1, 0] + [-1] * 10 + [-2] * 8
    for image in range(2):
        chosen = sample.target[image] >= 0
        torch.testing.assert_close(sample.boxes[image][chosen], targets.boxes[image][sample.target[image][chosen]])


def test_what_distances_cannot_say_of_a_region_is_ignored() -> None:
    """The region's centre lies outside the target that it overlaps by 0.30."""
    target_boxes, region = torch.tensor([[[16.0, 0, 46, 30]]]), torch.tensor([[[0.0, 0, 30, 30]]])
    there = torch.ones(1, 1, dtype=torch.bool)
    instances = Targets(target_boxes, torch.zeros(1, 1, dtype=torch.long), there, ~there)
    sampler = part(RandomSampler, number=2, positive_share=1.0)
    criterion = TwoStageCriterion(assigner=part(MaxIoUAssigner, positive=0.3, negative=0.3), sampler=sampler)
    for holds, wanted in ((False, 2), (True, 1)):  # the target itself is a region too
        torch.manual_seed(0)
        target = criterion.sample(_proposals(region), instances, holds_center=holds).target
        assert int((target == 0).sum()) == wanted
        assert int((target == IGNORED).sum()) == 2 - wanted


def test_positives_keep_to_their_share() -> None:
    targets = _targets((1, 1))
    near = targets.boxes[:, :1].expand(2, 50, 4) + 0.5
    sample = TwoStageCriterion(sampler=part(RandomSampler, number=20, positive_share=0.25)).sample(
        _proposals(near), targets
    )
    assert (sample.target >= 0).sum(1).tolist() == [5, 5]
    assert (sample.target == -1).sum(1).tolist() == [0, 0]


def test_sums_are_divided_by_the_rows_sampled() -> None:
    terms = TwoStageCriterion(sampler=part(RandomSampler, number=32, positive_share=0.25))(
        _model(), _images(), _targets()
    )
    assert terms["cls"].count == terms["box"].count == 64
    assert terms["rpn_cls"].count == terms["rpn_box"].count == 512


def _proposing(model: Detector, boxes: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first stage propose these boxes, whatever it says."""
    propose = model.head.propose

    def stub(features: list[Tensor], images: Images, **limits: int) -> Any:
        return propose(features, images, **limits)[0], _proposals(boxes)

    monkeypatch.setattr(model.head, "propose", stub)


def _around(targets: Targets) -> Tensor:
    """Boxes a few pixels off the ground truth, and one where there is none."""
    off = torch.tensor([[3.0, -2, 1, 2], [-1, 2, 2, -3]])
    near = (targets.boxes[:, None, :2] + off[:, None]).flatten(1, 2)
    return torch.cat([near, torch.tensor([100.0, 0, 128, 30]).expand(2, 1, 4)], dim=1)


def test_the_second_stage_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cross entropy over all rows and L1 on the code of the right class over the positives, row by row."""
    model, images, targets = _model(), _images(), _targets()
    criterion, proposals = TwoStageCriterion(sampler=ALL, box=part(BoxTerm, loss=part(L1Loss))), _around(targets)
    _proposing(model, proposals, monkeypatch)
    torch.nn.init.normal_(model.head.box_out.weight)
    with torch.no_grad():
        terms = criterion(model, images, targets)
        sample = criterion.sample(_proposals(proposals), targets)
        logits, codes, _ = model.head.classify(model.features(images), sample.boxes)
    assert (sample.target >= 0).sum(1).ge(4).all()
    cls, box, count = 0.0, 0.0, 0
    for i in range(2):
        for logit, code, roi, row in zip(logits[i], codes[i], sample.boxes[i], sample.target[i].tolist(), strict=True):
            if row == -2:
                continue
            count += 1
            label = int(targets.labels[i, row]) if row >= 0 else 3
            cls -= float(logit.log_softmax(0)[label])
            if row >= 0:
                target_boxes, size = targets.boxes[i, row], roi[2:] - roi[:2]
                shift = ((target_boxes[:2] + target_boxes[2:]) / 2 - (roi[:2] + roi[2:]) / 2) / size * 10
                scale = torch.log((target_boxes[2:] - target_boxes[:2]) / size) * 5
                box += float((code.view(3, 4)[label] - torch.cat([shift, scale])).abs().sum())
    assert float(terms["cls"].count) == count
    assert float(terms["cls"].total) == pytest.approx(cls, rel=1e-4)
    assert float(terms["box"].total) == pytest.approx(box, rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("args", [{}, {"box.loss": part(GIoULoss)}], ids=["codes", "boxes"])
def test_a_better_second_stage_has_a_lower_loss(args: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """From "background, as proposed" to the target in four steps: each lowers both terms, the last one boxes to 0."""
    model, images, targets = _model(class_agnostic=True), _images(), _targets()
    criterion = changed(part(TwoStageCriterion, sampler=ALL), args).build()
    _proposing(model, _around(targets), monkeypatch)
    values = []
    for share in (0.0, 0.3, 0.6, 1.0):

        def classify(features: list[Tensor], boxes: Tensor, share: float = share) -> SecondStage:
            row = criterion.assigner(roi_priors(boxes), targets).target
            at = row.clamp(min=0)
            target_boxes = targets.boxes.gather(1, at[..., None].expand(-1, -1, 4))
            label = torch.where(row >= 0, targets.labels.gather(1, at), 3)
            codes = model.head.coder.encode(target_boxes, roi_priors(boxes))
            return SecondStage(F.one_hot(label, 4) * 5.0 * share, codes.nan_to_num() * share)

        monkeypatch.setattr(model.head, "classify", classify)
        shares = loss_of(criterion(model, images, targets))[1]
        values.append((shares["cls"].item(), shares["box"].item()))
    assert values == sorted(values, reverse=True)
    assert [v[1] for v in values] == sorted((v[1] for v in values), reverse=True)
    assert values[0][1] > 1e-2
    assert values[-1][1] < 1e-5


def test_a_head_with_centerness_proposes_and_learns() -> None:
    """The proposer's own criterion goes with it: FCOS's, quality term included."""
    model = _model(proposer=part(FCOSHead, num_classes=1, channels=8, coarsest=64))
    criterion = TwoStageCriterion(first=find("fcos", "recipes")().get("criterion"))
    criterion.check(model)
    terms = criterion(model, _images(), _targets())
    assert sorted(terms) == ["box", "cls", "rpn_box", "rpn_cls", "rpn_quality"]
    assert loss_of(terms)[0].isfinite()


def test_compiles_whole_and_says_the_same() -> None:
    torch._dynamo.reset()
    model, images, targets = _model().train(), _images(), _targets()
    first = part(TwoStageCriterion).get("first").with_args(sampler=ALL)
    criterion = TwoStageCriterion(first=first, sampler=ALL, proposals=40, proposal_top=60)

    def step() -> Tensor:
        return loss_of(criterion(model, images, targets))[0]

    want = step()
    want.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    got = torch.compile(step, backend="aot_eager", fullgraph=True)()
    got.backward()
    torch.testing.assert_close(got, want)
    for name, p in model.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(p.grad, gradients[name], rtol=1e-3, atol=1e-5)


def test_refuses_what_cannot_learn() -> None:
    with pytest.raises(PartError, match=r"FocalLoss is a loss for sigmoid.*criterion\.cls\.loss='cross_entropy'"):
        TwoStageCriterion(cls=part(ClassificationTerm, loss=part(FocalLoss)))
    with pytest.raises(PartError, match=r"ATSSAssigner assigns cells.*criterion.first.assigner='atss'"):
        TwoStageCriterion(assigner=part(ATSSAssigner))
    dense = Detector(
        backbone=part(Timm, name="test_resnet"),
        neck=part(FPN, channels=8),
        head=part(FCOSHead, num_classes=3, channels=8),
    )
    with pytest.raises(PartError, match=r"but FCOSHead gives DensePredictions: set criterion='dense'"):
        TwoStageCriterion().check(dense)
    first = part(DenseCriterion, cls=part(ClassificationTerm, loss=part(BCELoss)))
    with pytest.raises(PartError, match=r"gives no soft targets"):
        TwoStageCriterion(first=first).check(_model(proposer=part(FCOSHead, num_classes=1, channels=8, coarsest=64)))
    TwoStageCriterion().check(_model())


def test_recipe_is_that_of_the_zoo_model() -> None:
    recipe = faster_rcnn(num_classes=5)
    assert recipe.get("model").get("head").get("num_classes") == 5
    assert (recipe.get("lr"), recipe.get("epochs"), recipe.get("lr_batch")) == (0.02, 12, 16)
    swapped = recipe.override("criterion.box.loss", "giou")
    assert swapped.get("criterion").get("box").get("loss") == part(GIoULoss)
