"""Faster R-CNN against torchvision's, with its random weights, in float64: every stage, detections and losses.

Sampling is the one step that draws. Both sides get budgets that take every row, so nothing is left to chance.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection.faster_rcnn import FasterRCNN as Theirs
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers

from torso.data.targets import Targets
from torso.heads.faster_rcnn import FasterRCNNHead
from torso.kernels.roi import multi_level_roi_align, roi_levels
from torso.models.detector import Detector
from torso.parts import part
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.criteria._base import loss_of
from torso.training.criteria.dense import DenseCriterion
from torso.training.criteria.two_stage import TwoStageCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.samplers.random import RandomSampler
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.types import Images
from torso.zoo.faster_rcnn import torchvision_model, torchvision_to_torso

CLASSES = 20
SIZES = [(192, 256), (173, 231)]
KEPT = 200  # proposals of either side; all of them would cost minutes in float64
EVERYTHING = 10**6


class Pair(NamedTuple):
    theirs: Theirs
    ours: Detector
    images: Images
    their_images: ImageList
    their_features: dict[str, Tensor]
    our_features: list[Tensor]

    @property
    def head(self) -> FasterRCNNHead:
        assert isinstance(self.ours.head, FasterRCNNHead)
        return self.ours.head


@pytest.fixture(scope="module")
def pair() -> Pair:
    torch.manual_seed(0)
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES + 1)
    pixels = torch.randint(0, 256, (2, 3, 192, 256), dtype=torch.uint8)
    images = Images(pixels, torch.tensor(SIZES, dtype=torch.float32), torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 2))
    ours = torchvision_model(num_classes=CLASSES).override("head.proposals", KEPT).build()
    _make_lively(theirs, ours.normalise(images))
    theirs.rpn._post_nms_top_n = {"training": KEPT, "testing": KEPT}
    ours.load_state_dict(torchvision_to_torso(theirs.state_dict()))
    theirs, ours = theirs.double().eval(), ours.double().eval()
    with torch.no_grad():
        normalised = ours.normalise(images)
        their_features, our_features = theirs.backbone(normalised), ours.features(images)
    return Pair(theirs, ours, images, ImageList(normalised, SIZES), their_features, our_features)


def _make_lively(model: Theirs, pixels: Tensor) -> None:
    """Norm statistics as after training, and outputs that spread: with the initial ones all boxes are anchors."""
    norms = [m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model.train().backbone(pixels)
        model.rpn.head.cls_logits.weight.mul_(20)
        model.rpn.head.bbox_pred.weight.mul_(5)
        model.rpn.head.cls_logits.bias.normal_()
        model.roi_heads.box_predictor.cls_score.weight.mul_(8)
        model.roi_heads.box_predictor.bbox_pred.weight.mul_(4)


def assert_same(ours: Tensor, theirs: Tensor, tolerance: float = 1e-9) -> None:
    """Equal to a share of the largest magnitude."""
    assert ours.shape == theirs.shape
    assert theirs.numel() == 0 or (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def test_features(pair: Pair) -> None:
    for mine, other in zip(pair.our_features, pair.their_features.values(), strict=True):
        assert_same(mine, other)


@torch.no_grad()
def test_first_stage_raw(pair: Pair) -> None:
    objectness, deltas = pair.theirs.rpn.head(list(pair.their_features.values()))
    anchors = pair.theirs.rpn.anchor_generator(pair.their_images, list(pair.their_features.values()))
    logits, codes = concat_box_prediction_layers(objectness, deltas)
    raw = pair.head.proposer(pair.our_features, pair.images)
    assert_same(raw.logits.reshape(-1, 1), logits)
    assert_same(raw.codes.reshape(-1, 4), codes)
    assert_same(raw.priors.boxes.double(), anchors[0])


@torch.no_grad()
@pytest.mark.parametrize(("top", "keep"), [(1000, 1000), (300, 100)])
def test_proposals(pair: Pair, top: int, keep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair.theirs.rpn, "_pre_nms_top_n", {"testing": top})
    monkeypatch.setattr(pair.theirs.rpn, "_post_nms_top_n", {"testing": keep})
    theirs, _ = pair.theirs.rpn(pair.their_images, pair.their_features)
    _, ours = pair.head.propose(pair.our_features, pair.images, top=top, keep=keep)
    for i, boxes in enumerate(theirs):
        assert len(boxes) > keep // 2
        assert int((ours.scores[i] > 0).sum()) == len(boxes)
        assert_same(ours.boxes[i, : len(boxes)], boxes)


@torch.no_grad()
def test_pooled_features_and_second_stage(pair: Pair) -> None:
    corner = torch.rand(2, 120, 2, dtype=torch.float64) * 250 - 40
    size = torch.exp(torch.rand(2, 120, 2) * 6.5)  # 1 to 665 px, so that some lie outside the maps
    boxes = torch.cat([corner, corner + size], dim=-1)
    theirs = pair.theirs.roi_heads.box_roi_pool(pair.their_features, list(boxes), SIZES)
    levels = roi_levels(boxes, pair.head.strides)
    assert levels.unique().tolist() == [0, 1, 2, 3]
    ours = multi_level_roi_align(
        pair.our_features[:4], pair.head.strides, boxes, levels, size=7, sampling=2, aligned=False
    )
    assert_same(ours.flatten(0, 1), theirs)
    hidden = pair.theirs.roi_heads.box_head(theirs)
    logits, codes = pair.theirs.roi_heads.box_predictor(hidden)
    my_logits, my_codes, _ = pair.head.classify(pair.our_features, boxes)
    assert_same(my_logits.flatten(0, 1), logits.roll(-1, dims=1))
    assert_same(my_codes.flatten(0, 1), codes[:, 4:])


@torch.no_grad()
def test_detections(pair: Pair) -> None:
    proposals, _ = pair.theirs.rpn(pair.their_images, pair.their_features)
    theirs, _ = pair.theirs.roi_heads(pair.their_features, proposals, SIZES)
    ours = pair.ours.detect(pair.images)
    for i, found in enumerate(theirs):
        n = len(found["boxes"])
        assert n > 10
        assert int((ours.scores[i] > 0).sum()) == n
        assert_same(ours.scores[i, :n].double(), found["scores"], 1e-6)
        assert_same(ours.boxes[i, :n].double(), found["boxes"], 1e-6)
        assert torch.equal(ours.labels[i, :n], found["labels"] - 1)


def _targets(seed: int, counts: tuple[int, int], rows: int = 40) -> tuple[Targets, list[dict[str, Tensor]]]:
    """The same random ground truth padded, for us, and as lists, for torchvision (labels from 1)."""
    draw = torch.Generator().manual_seed(seed)
    boxes, labels, valid = torch.zeros(2, rows, 4), torch.zeros(2, rows, dtype=torch.int64), torch.zeros(2, rows).bool()
    for i, ((height, width), n) in enumerate(zip(SIZES, counts, strict=True)):
        extent = torch.tensor([width, height])
        size = torch.exp(torch.rand(n, 2, generator=draw) * 3.0 + 2.2).minimum(extent * 0.9)
        corner = torch.rand(n, 2, generator=draw) * (extent - size)
        boxes[i, :n] = torch.cat([corner, corner + size], dim=1)
        labels[i, :n] = torch.randint(0, CLASSES, (n,), generator=draw)
        valid[i, :n] = True
    lists = [{"boxes": b[v].double(), "labels": x[v] + 1} for b, x, v in zip(boxes, labels, valid, strict=True)]
    return Targets(boxes, labels, valid, torch.zeros_like(valid)), lists


def _torchvision_losses(
    pair: Pair, targets: list[dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    rpn, heads = pair.theirs.rpn, pair.theirs.roi_heads
    for sampler in (rpn.fg_bg_sampler, heads.fg_bg_sampler):
        monkeypatch.setattr(sampler, "batch_size_per_image", 2 * EVERYTHING)
    pair.theirs.train().backbone.eval()
    proposals, losses = rpn(pair.their_images, pair.their_features, targets)
    _, more = heads(pair.their_features, proposals, SIZES, targets)
    pair.theirs.eval()
    return {**losses, **more}


def _everything(share: float) -> Any:
    return part(RandomSampler, number=2 * EVERYTHING, positive_share=share)


@torch.no_grad()
@pytest.mark.parametrize(
    ("seed", "counts"),
    [(1, (5, 9)), (2, (0, 7)), (3, (40, 36)), (4, (1, 0)), (5, (0, 0))],
    ids=["usual", "one empty", "crowded", "one box", "all empty"],
)
def test_losses(pair: Pair, seed: int, counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    targets, lists = _targets(seed, counts)
    theirs = _torchvision_losses(pair, lists, monkeypatch)
    criterion = TwoStageCriterion(
        first=part(
            DenseCriterion,
            assigner=part(MaxIoUAssigner, positive=0.7, negative=0.3, rescue=True, rescue_above=0.0),
            cls=part(ClassificationTerm, loss=part(BCELoss)),
            box=part(BoxTerm, loss=part(SmoothL1Loss, beta=1 / 9)),
            sampler=_everything(0.5),
            normaliser="sampled",
        ),
        sampler=_everything(0.25),
        box=part(BoxTerm, loss=part(SmoothL1Loss, beta=1 / 9)),
        proposals=KEPT,
    )
    monkeypatch.setattr(pair.ours, "features", lambda images: pair.our_features)
    _, ours = loss_of(criterion(pair.ours, pair.images, targets))
    names = {
        "rpn_cls": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "cls": "loss_classifier",
        "box": "loss_box_reg",
    }
    assert sum(counts) == 0 or all(theirs[name] > 0 for name in names.values())
    for mine, other in names.items():
        assert abs(ours[mine] - theirs[other]) <= 1e-5 * theirs[other].abs().clamp(min=1e-12), mine


def test_published_counts() -> None:
    """torchvision's 41,755,286 (91 outputs): we lack its 4 x 1,025 box codes of background, and count the norms' 53,120
    values as parameters where it has buffers.
    """
    with torch.device("meta"):
        recipe = torchvision_model(num_classes=90)
        total = sum(p.numel() for p in recipe.build().parameters())
    assert total == 41_755_286 - 4 * 1025 + 53_120


def test_norms_without_epsilon_keep_their_function(pair: Pair) -> None:
    """torchvision's first published weights were trained with frozen norms of eps 0."""
    state = {k: v for k, v in pair.theirs.state_dict().items() if k.startswith("backbone.body.bn1")}
    moved = torchvision_to_torso(state, norm_eps=0.0)
    ours = pair.ours.backbone.body.bn1
    want = (state["backbone.body.bn1.running_var"]).rsqrt()
    assert_same((moved["backbone.body.bn1.running_var"] + ours.eps).rsqrt(), want)


def test_unknown_tensor_is_named() -> None:
    with pytest.raises(ValueError, match=r"fasterrcnn_resnet50_fpn.*mask_head"):
        torchvision_to_torso({"roi_heads.mask_head.0.weight": torch.zeros(1)})
