"""The dense criterion as SSD, YOLO, YOLOX, GFL and TOOD want it, against their formulas as plain loops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from training.criteria.settings import dense

from torso.data.targets import Targets
from torso.geometry.boxes import aligned_overlap, area
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.coders.distribution import DistributionCoder
from torso.geometry.coders.yolo import YOLOCoder
from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.parts import PartError, part
from torso.training.assigners.atss import ATSSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assigners.paa import PAAAssigner
from torso.training.assigners.simota import SimOTAAssigner
from torso.training.assigners.ssd import SSDAssigner
from torso.training.assigners.task_aligned import TaskAlignedAssigner
from torso.training.assigners.yolo_v2 import YOLOv2Assigner
from torso.training.assigners.yolo_v3 import YOLOv3Assigner
from torso.training.assigners.yolo_v5 import YOLOv5Assigner
from torso.training.criteria._base import loss_of
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.cross_entropy import CrossEntropyLoss
from torso.training.losses.dfl import DFLLoss
from torso.training.losses.focal import FocalLoss
from torso.training.losses.ghm import GHMLoss
from torso.training.losses.iou import CIoULoss, GIoULoss, IoULoss
from torso.training.losses.l1 import L1Loss
from torso.training.losses.qfl import QFLLoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.losses.vfl import VFLLoss
from torso.training.losses.yolo_box import YOLOBoxLoss
from torso.training.samplers.hard_negative import HardNegativeSampler
from torso.training.samplers.random import RandomSampler
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.types import DensePredictions, FeatureSpec, Images

SPECS = tuple(FeatureSpec(8, (s, s)) for s in (8, 16, 32))
ANCHORS = part(Anchors, base_scale=2.0, octave_scales=1, ratios=(0.5, 1.0, 2.0), offset=0.5)
POINTS: dict[str, Any] = {"priors": part(Points)}
OBJECTNESS: dict[str, Any] = {"cls.on": "positives", "quality.on": "used"}

HEADS: dict[str, dict[str, Any]] = {
    "ssd": {"priors": ANCHORS, "scores": "softmax"},
    "yolo_v3": {"priors": ANCHORS, "coder": part(YOLOCoder), "quality": "box"},
    "yolo_v5": {"priors": ANCHORS, "coder": part(YOLOCoder, scale_xy=2.0, size="square"), "quality": "box"},
    "yolox": {"priors": part(Points, offset=0.0), "coder": part(DeltaCoder), "quality": "box"},
    "gfl": {**POINTS, "coder": part(DistributionCoder, reg_max=8)},
    "tood": {**POINTS, "coder": part(DistributionCoder, reg_max=8)},
    "paa": {**POINTS, "coder": part(DeltaCoder), "quality": "box"},
}
CRITERIA: dict[str, dict[str, Any]] = {
    "ssd": {
        "assigner": part(SSDAssigner),
        "cls.loss": part(CrossEntropyLoss),
        "box.loss": part(SmoothL1Loss),
        "sampler": part(HardNegativeSampler),
    },
    "yolo_v3": {
        "assigner": part(YOLOv3Assigner, ignore_above=0.3),
        "cls.loss": part(BCELoss),
        "box.loss": part(YOLOBoxLoss),
        **OBJECTNESS,
        "quality.target": "one",
        "box.weighting": "size",
        "normaliser": "batch",
        "quality.positive_weight": 5.0,
        "quality.loss": "squared",
    },
    "yolo_v5": {
        "assigner": part(YOLOv5Assigner),
        "cls.loss": part(BCELoss),
        "box.loss": part(CIoULoss),
        **OBJECTNESS,
        "quality.target": "ciou",
        "per_level": True,
        "quality.normaliser": "sampled",
        "quality.level_weights": (4.0, 1.0, 0.4),
        "quality.mix": 0.8,
        "cls.weight": 0.5 / 3,
        "box.weight": 0.05,
    },
    "yolox": {
        "assigner": part(SimOTAAssigner),
        "cls.loss": part(BCELoss),
        "box.loss": part(IoULoss, form="square"),
        **OBJECTNESS,
        "quality.target": "one",
        "box.weight": 5.0,
    },
    "gfl": {
        "assigner": part(ATSSAssigner),
        "cls.loss": part(QFLLoss),
        "box.loss": part(GIoULoss),
        "box.weighting": "score",
        "box.weight": 2.0,
    },
    "tood": {
        "assigner": part(TaskAlignedAssigner),
        "cls.loss": part(BCELoss),
        "box.loss": part(CIoULoss),
        "box.weighting": "quality",
        "normaliser": "quality",
        "distribution.weight": 1.5,
    },
    "paa": {
        "assigner": part(PAAAssigner, iterations=4),
        "box.loss": part(GIoULoss),
        "box.weighting": "quality",
        "box.weight": 1.3,
        "quality.weight": 0.5,
    },
}


def predictions(**head: Any) -> tuple[DenseHead, DensePredictions]:
    torch.manual_seed(0)
    made = DenseHead(SPECS, **{"num_classes": 3, "channels": 8, "tower": 1, "finest": 8, "coarsest": 32, **head})
    maps = [torch.randn(2, 8, 64 // s.stride, 64 // s.stride) for s in SPECS]
    raw = made(maps, Images(torch.zeros(2, 3, 64, 64), torch.full((2, 2), 64.0), torch.ones(2, 4)))
    quality = None if raw.quality is None else torch.randn_like(raw.quality)
    codes = torch.randn_like(raw.codes) * 0.7
    return made, raw._replace(logits=torch.randn_like(raw.logits), codes=codes, quality=quality)


def targets() -> Targets:
    few, many = [[8.0, 10, 30, 50], [0, 0, 9, 9], [0, 0, 9, 9]], [[4.0, 4, 40, 36], [20, 20, 60, 60], [22, 20, 58, 60]]
    boxes = torch.tensor([many, few])
    valid = torch.tensor([[True, True, True], [True, False, False]])
    return Targets(boxes, torch.tensor([[0, 2, 1], [1, 0, 0]]), valid, torch.zeros_like(valid))


def shares(terms: Any) -> dict[str, float]:
    return {k: float(v.detach()) for k, v in loss_of(terms)[1].items()}


def test_ssd_is_mined_three_to_one() -> None:
    head, raw = predictions(**HEADS["ssd"])
    got = dense(CRITERIA["ssd"]).terms(raw, targets(), head)
    assigned = SSDAssigner()(raw.priors, targets()).target
    total = 0.0
    for i in range(2):
        costs = -raw.logits[i].log_softmax(-1)
        labels = torch.where(assigned[i] >= 0, targets().labels[i][assigned[i].clamp(min=0)], 3)
        own = costs.gather(1, labels[:, None])[:, 0]
        positives = int((assigned[i] >= 0).sum())
        hardest = own[assigned[i] < 0].sort(descending=True).values[: 3 * positives]
        total += float(own[assigned[i] >= 0].sum() + hardest.sum())
    assert float(got["cls"].total) == pytest.approx(total, rel=1e-5)
    assert float(got["cls"].count) == float((assigned >= 0).sum())


def test_yolo_v3_as_darknet_sums_it() -> None:
    head, raw = predictions(**HEADS["yolo_v3"])
    got = dense(CRITERIA["yolo_v3"]).terms(raw, targets(), head)
    assert raw.quality is not None
    boxes, t = head.coder.decode(raw.codes, raw.priors), targets()
    assigned = YOLOv3Assigner(ignore_above=0.3)(raw.priors, t, boxes, raw.logits).target
    assert {-2, -1, 0} <= set(assigned.flatten().tolist())
    want = {"cls": 0.0, "box": 0.0, "objectness": 0.0}
    codes = head.coder.encode(t.boxes.gather(1, assigned.clamp(min=0)[..., None].expand(-1, -1, 4)), raw.priors)
    for i in range(2):
        for n, j in enumerate(assigned[i].tolist()):
            score = float(raw.quality[i, n].sigmoid())
            if j == -1:
                want["objectness"] += 0.5 * score**2
            if j >= 0:
                want["objectness"] += 5 * 0.5 * (1 - score) ** 2
                one_hot = F.one_hot(t.labels[i, j], 3).float()
                want["cls"] += float(F.binary_cross_entropy_with_logits(raw.logits[i, n], one_hot, reduction="sum"))
                size = 2 - float(area(t.boxes[i, j])) / 64**2
                want["box"] += size * float(YOLOBoxLoss()(raw.codes[i, n], codes[i, n]))
    assert {k: float(v.total) for k, v in got.items()} == pytest.approx(want, rel=1e-4)
    assert {float(v.count) for v in got.values()} == {2.0}


def test_yolo_v5_level_by_level() -> None:
    """Means over the pairs of each level, objectness of the best pair of a prior, levels balanced."""
    head, raw = predictions(**HEADS["yolo_v5"])
    criterion, t = dense(CRITERIA["yolo_v5"]), targets()
    terms = criterion.terms(raw, t, head)
    got = shares(terms)
    pairs, boxes = YOLOv5Assigner()(raw.priors, t), head.coder.decode(raw.codes, raw.priors)
    want, start = {}, 0
    assert raw.quality is not None
    for level, size in enumerate(raw.priors.level_sizes):
        cls, box, wanted = [], [], torch.zeros(2, size)
        for i in range(2):
            for prior, j, weight in zip(*(x[i].tolist() for x in pairs), strict=True):
                if weight and start <= prior < start + size:
                    fit = float(aligned_overlap(boxes[i, prior], t.boxes[i, j], "ciou"))
                    one_hot = F.one_hot(t.labels[i, j], 3).float()
                    cls.append(float(F.binary_cross_entropy_with_logits(raw.logits[i, prior], one_hot)))
                    box.append(1 - fit)
                    wanted[i, prior - start] = max(float(wanted[i, prior - start]), 0.2 + 0.8 * max(fit, 0))
        entropy = F.binary_cross_entropy_with_logits(raw.quality[:, start : start + size], wanted)
        want[f"level{level}_cls"] = 0.5 * sum(cls) / len(cls)
        want[f"level{level}_box"] = 0.05 * sum(box) / len(box)
        want[f"level{level}_objectness"] = (4.0, 1.0, 0.4)[level] * float(entropy)
        start += size
    assert got == pytest.approx(want, rel=1e-4)


def test_yolox() -> None:
    head, raw = predictions(**HEADS["yolox"])
    got, t = shares(dense(CRITERIA["yolox"]).terms(raw, targets(), head)), targets()
    boxes = head.coder.decode(raw.codes, raw.priors)
    assert raw.quality is not None
    a = SimOTAAssigner()(raw.priors, t, boxes, raw.logits.sigmoid() * raw.quality.sigmoid()[..., None])
    positive = a.target >= 0
    matched = t.boxes.gather(1, a.target.clamp(min=0)[..., None].expand(-1, -1, 4))
    fit = aligned_overlap(boxes, matched, "iou")
    labels = t.labels.gather(1, a.target.clamp(min=0))
    soft = F.one_hot(labels, 3) * fit[..., None]
    cls = F.binary_cross_entropy_with_logits(raw.logits, soft, reduction="none").sum(-1)[positive].sum()
    objectness = F.binary_cross_entropy_with_logits(raw.quality, positive.float(), reduction="sum")
    count = positive.sum()
    assert count > 3
    want = {"cls": cls, "box": 5 * (1 - fit**2)[positive].sum(), "objectness": objectness}
    assert got == pytest.approx({k: float(v / count) for k, v in want.items()}, rel=1e-4)


def test_gfl() -> None:
    """Class target the box's IoU, boxes weighed by the best score now and divided by the sum of these."""
    head, raw = predictions(**HEADS["gfl"])
    got, t = shares(dense(CRITERIA["gfl"]).terms(raw, targets(), head)), targets()
    target, boxes = ATSSAssigner()(raw.priors, t).target, head.coder.decode(raw.codes, raw.priors)
    positive, row = target >= 0, target.clamp(min=0)
    matched = t.boxes.gather(1, row[..., None].expand(-1, -1, 4))
    fit = aligned_overlap(boxes, matched, "iou")
    labels = torch.where(positive, t.labels.gather(1, row), -1)
    weight = torch.where(positive, raw.logits.sigmoid().amax(-1), 0.0)
    bins = head.coder.bin_targets(matched, raw.priors)
    dfl = DFLLoss()(raw.codes.unflatten(-1, (4, 9)), bins)
    want = {
        "cls": QFLLoss()(raw.logits, labels, fit).sum() / positive.sum(),
        "box": 2 * (GIoULoss()(boxes, matched) * weight).sum() / weight.sum().clamp(min=1),
        "dfl": 0.25 * (dfl * weight).sum() / weight.sum().clamp(min=1),
    }
    assert got == pytest.approx({k: float(v) for k, v in want.items()}, rel=1e-4)


def test_tood() -> None:
    head, raw = predictions(**HEADS["tood"])
    terms, t = dense(CRITERIA["tood"]).terms(raw, targets(), head), targets()
    boxes = head.coder.decode(raw.codes, raw.priors)
    a = TaskAlignedAssigner()(raw.priors, t, boxes, raw.logits.sigmoid())
    assert a.quality is not None
    labels = torch.where(a.target >= 0, t.labels.gather(1, a.target.clamp(min=0)), -1)
    torch.testing.assert_close(terms["cls"].total, BCELoss()(raw.logits, labels, a.quality).sum())
    for term in terms.values():
        torch.testing.assert_close(term.count, a.quality.sum())
    matched = t.boxes.gather(1, a.target.clamp(min=0)[..., None].expand(-1, -1, 4))
    box = torch.where(a.target >= 0, CIoULoss()(boxes, matched) * a.quality, 0.0)
    torch.testing.assert_close(terms["box"].total, box.sum())


@pytest.mark.parametrize("kind", CRITERIA)
class TestEveryComposition:
    def test_counts_before_the_forward_pass(self, kind: str) -> None:
        head, raw = predictions(**HEADS[kind])
        criterion = dense(CRITERIA[kind])
        model: Any = SimpleNamespace(head=head)
        images = Images(torch.zeros(2, 3, 64, 64), torch.full((2, 2), 64.0), torch.ones(2, 4))
        sizes = [(h, w) for h, w, _ in raw.priors.levels]
        if criterion.counts_need_predictions:
            assert kind not in ("ssd", "yolo_v5")
            with pytest.raises(NotImplementedError, match="counts what the network predicts"):
                criterion.counts(model, images, targets(), sizes)
            return
        counts = criterion.counts(model, images, targets(), sizes)
        terms = criterion.terms(raw, targets(), head)
        assert list(counts) == list(terms)
        assert {k: float(v) for k, v in counts.items()} == {k: float(v.count) for k, v in terms.items()}

    def test_compiles_whole_and_teaches_every_output(self, kind: str) -> None:
        head, raw = predictions(**HEADS[kind])
        leaves = [x.requires_grad_() for x in (raw.logits, raw.codes, raw.quality) if x is not None]
        criterion = dense(CRITERIA[kind])

        def loss(logits: Tensor, codes: Tensor, quality: Tensor | None, t: Targets) -> Tensor:
            predicted = raw._replace(logits=logits, codes=codes, quality=quality)
            return loss_of(criterion.terms(predicted, t, head))[0]

        torch.compiler.reset()
        wanted = loss(raw.logits, raw.codes, raw.quality, targets())
        got = torch.compile(loss, fullgraph=True, backend="aot_eager")(raw.logits, raw.codes, raw.quality, targets())
        torch.testing.assert_close(got, wanted)
        for slope in torch.autograd.grad(got, leaves):
            assert slope.isfinite().all()
            assert slope.any()

    def test_without_objects_only_background_is_learnt(self, kind: str) -> None:
        head, raw = predictions(**HEADS[kind])
        nothing = targets()._replace(valid=torch.zeros(2, 3, dtype=torch.bool))
        raw.codes.requires_grad_()
        total, by_name = loss_of(dense(CRITERIA[kind]).terms(raw, nothing, head))
        assert total.isfinite()
        assert all(float(v.detach()) == 0 for k, v in by_name.items() if k.endswith(("box", "dfl")))
        total.backward()
        assert raw.codes.grad is not None
        assert not raw.codes.grad.any()


def test_ghm_is_divided_by_the_elements_it_weighs() -> None:
    head, raw = predictions(priors=ANCHORS)
    term = DenseCriterion(cls=part(ClassificationTerm, loss=part(GHMLoss, bins=1))).terms(raw, targets(), head)["cls"]
    used = MaxIoUAssigner()(raw.priors, targets()).target != -2
    assert float(term.count) == float(used.sum() * 3)
    plain = DenseCriterion(cls=part(ClassificationTerm, loss=part(BCELoss))).terms(raw, targets(), head)["cls"]
    torch.testing.assert_close(term.total, plain.total)


@pytest.mark.parametrize(("normaliser", "count"), [("targets", 4.0), ("batch", 2.0)])
def test_other_normalisers(normaliser: Any, count: float) -> None:
    head, raw = predictions(priors=ANCHORS)
    assert float(DenseCriterion(normaliser=normaliser).terms(raw, targets(), head)["box"].count) == count


@pytest.mark.parametrize("loss", [QFLLoss, VFLLoss])
def test_soft_losses_teach_the_iou_of_the_box(loss: type) -> None:
    head, raw = predictions(priors=ANCHORS)
    soft = DenseCriterion(cls=part(ClassificationTerm, loss=part(loss))).terms(raw, targets(), head)["cls"].total
    hard = (
        DenseCriterion(cls=part(ClassificationTerm, loss=part(loss), target="one"))
        .terms(raw, targets(), head)["cls"]
        .total
    )
    asked = (
        DenseCriterion(cls=part(ClassificationTerm, loss=part(loss), target="iou"))
        .terms(raw, targets(), head)["cls"]
        .total
    )
    assert float(soft) == float(asked) != float(hard)
    assert not soft.requires_grad


SIGMOID: dict[str, Any] = {"priors": ANCHORS}


@pytest.mark.parametrize(
    ("head", "criterion", "message"),
    [
        (
            POINTS,
            {"assigner": part(YOLOv3Assigner)},
            "YOLOv3Assigner chooses a prior by its shape, but this head's priors are points",
        ),
        (SIGMOID, {"assigner": part(YOLOv2Assigner)}, "YOLOv2Assigner is the rule of one level, but this head has 3"),
        (
            HEADS["yolo_v3"],
            {"assigner": part(YOLOv5Assigner)},
            r"set head\.coder\.scale_xy=2 and criterion\.cls\.on='positives'",
        ),
        (HEADS["yolo_v3"], {"assigner": part(ATSSAssigner)}, "the yolo coder says only centres in a prior's own cell"),
        (HEADS["yolo_v5"], {"assigner": part(YOLOv5Assigner)}, r"set criterion\.cls\.on='positives'"),
        (SIGMOID, {"cls.on": "positives"}, "nothing learns background"),
        (
            HEADS["gfl"],
            {"box.loss": part(L1Loss)},
            "L1Loss compares codes, but this head's coder predicts a distribution",
        ),
        (
            HEADS["yolox"],
            {"quality.level_weights": (1.0, 2.0), "quality.target": "one"},
            "a number for each of the head's 3 levels",
        ),
        (
            SIGMOID,
            {"normaliser": "quality"},
            "MaxIoUAssigner gives no soft targets, which the class loss or a normaliser",
        ),
        (SIGMOID, {"cls.target": "assigner"}, r"set criterion\.cls\.target='one'"),
        (
            HEADS["yolo_v5"],
            {**CRITERIA["yolo_v5"], "sampler": part(RandomSampler)},
            "gives pairs, which nothing samples",
        ),
    ],
)
def test_what_cannot_learn_is_refused(head: dict[str, Any], criterion: dict[str, Any], message: str) -> None:
    built, _ = predictions(**head)
    with pytest.raises(PartError, match=message):
        dense(criterion).check_head(built)


@pytest.mark.parametrize(
    "wrong",
    [
        {"per_level": True, "normaliser": "image"},
        {"quality.mix": 2.0},
        {"quality.positive_weight": 0.0},
        {"distribution.weight": -1.0},
        {"quality.level_weights": (1.0, -1.0)},
    ],
)
def test_settings_that_contradict_each_other(wrong: dict[str, Any]) -> None:
    with pytest.raises(PartError, match=r"dense criterion|QualityTerm|DistributionTerm"):
        dense(wrong)


def test_rules_for_anchors_and_points_alike() -> None:
    """SimOTA and TAL train any dense head; a quality branch learns their soft targets where the class loss does not."""
    for rule in (SimOTAAssigner, TaskAlignedAssigner):
        for head, loss in ((SIGMOID, QFLLoss), ({**POINTS, "quality": "cls"}, FocalLoss)):
            built, raw = predictions(**head)
            terms = DenseCriterion(
                assigner=part(rule),
                cls=part(ClassificationTerm, loss=part(loss)),
                box=part(BoxTerm, loss=part(GIoULoss)),
            ).terms(raw, targets(), built)
            assert all(float(t.total) > 0 for t in terms.values())


def test_paa_looks_at_classes_without_their_quality() -> None:
    """The loss that it compares is the class's alone; the IoU branch learns the same IoU that weighs the boxes."""
    head, raw = predictions(**HEADS["paa"])
    terms = dense(CRITERIA["paa"]).terms(raw, targets(), head)
    boxes = head.coder.decode(raw.codes, raw.priors)
    a = PAAAssigner(iterations=4)(raw.priors, targets(), boxes, raw.logits.sigmoid())
    assert a.quality is not None
    assert raw.quality is not None
    entropy = F.binary_cross_entropy_with_logits(raw.quality, a.quality, reduction="none")
    torch.testing.assert_close(terms["quality"].total, 0.5 * entropy[a.target >= 0].sum())
    torch.testing.assert_close(terms["box"].count, a.quality.sum())
