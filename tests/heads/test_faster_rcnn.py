"""The two-stage head: its stages' shapes, decoding against the long way, levels and widths it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from torso.backbones.timm import Timm
from torso.heads.faster_rcnn import FasterRCNNHead
from torso.heads.rpn import RPNHead
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import part
from torso.types import FeatureSpec, Images, RoIPredictions
from torso.zoo.atss import ATSSHead
from torso.zoo.faster_rcnn import faster_rcnn
from torso.zoo.fcos import FCOSHead

SPECS = tuple(FeatureSpec(8, (s, s)) for s in (4, 8, 16, 32, 64))
SIZE = (100, 141)  # no multiple of any stride


def _head(**args: Any) -> FasterRCNNHead:
    torch.manual_seed(0)
    head = FasterRCNNHead(SPECS, num_classes=3, **{"channels": 16, "proposals": 30, "proposal_top": 40, **args})
    for layer in (head.cls_out, head.box_out):  # outputs that differ from box to box
        torch.nn.init.normal_(layer.weight, std=0.5)
    return head.eval()


def _inputs(batch: int = 2) -> tuple[list[Tensor], Images]:
    draw = torch.Generator().manual_seed(3)
    features = [torch.randn(batch, 8, -(-SIZE[0] // s), -(-SIZE[1] // s), generator=draw) for s in (4, 8, 16, 32, 64)]
    sizes = torch.tensor([SIZE, (80, 120), SIZE])[:batch].float()
    return features, Images(torch.zeros(batch, 3, *SIZE), sizes, torch.zeros(batch, 4))


def test_published_count() -> None:
    """mmdetection 3.3, 80 classes: 41,753,056 in all, 593,935 in the RPN, 14,306,705 in the second stage."""
    with torch.device("meta"):
        model = faster_rcnn(num_classes=80).build()
    total, first = _count(model), _count(model.head.proposer)
    assert (total, first, _count(model.head) - first) == (41_753_056, 593_935, 14_306_705)


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("agnostic", [False, True])
def test_shapes_are_fixed_and_rows_best_first(agnostic: bool) -> None:
    head = _head(class_agnostic=agnostic)
    features, images = _inputs()
    raw = head(features, images)
    assert raw.logits.shape == (2, 30, 4)
    assert raw.codes.shape == (2, 30, 4 if agnostic else 12)
    proposals = raw.proposals
    assert proposals.boxes.shape == (2, 30, 4)
    assert bool((proposals.scores.diff(dim=1) <= 0).all())
    assert bool((proposals.boxes >= 0).all() & (proposals.boxes[1] <= torch.tensor([120.0, 80, 120, 80])).all())
    found = head.decode(raw, images)
    assert found.boxes.shape == (2, 90, 4)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    kept = found.scores > 0
    assert bool(((found.scores > 0.05) == kept).all())
    assert bool((found.index[~kept] == -1).all() & (found.index[kept] >= 0).all())


@torch.no_grad()
@pytest.mark.parametrize("agnostic", [False, True])
def test_decoding_is_that_of_all_boxes(agnostic: bool) -> None:
    """The long way: every (proposal, class) pair decoded by itself, then sorted."""
    head = _head(class_agnostic=agnostic, pre_nms_top=40)
    features, images = _inputs()
    raw = head(features, images)
    found = head.decode(raw, images)
    for image, (height, width) in enumerate(images.size_hw.tolist()):
        pairs = []
        for row, box in enumerate(raw.proposals.boxes[image]):
            w, h = (box[2] - box[0]).item(), (box[3] - box[1]).item()
            for label, score in enumerate(raw.logits[image, row].softmax(0)[:-1].tolist()):
                dx, dy, dw, dh = raw.codes[image, row, :4] if agnostic else raw.codes[image, row].view(3, 4)[label]
                cx, cy = box[0] + w / 2 + dx / 10 * w, box[1] + h / 2 + dy / 10 * h
                half = torch.stack([torch.exp(dw / 5) * w / 2, torch.exp(dh / 5) * h / 2])
                corners = torch.stack([cx - half[0], cy - half[1], cx + half[0], cy + half[1]]).clamp(min=0)
                corners = corners.minimum(torch.tensor([width, height, width, height]))
                if score > 0.05 and (corners[2:] > corners[:2]).all():
                    pairs.append((score, label, row, corners))
        pairs = sorted(pairs, key=lambda p: -p[0])[:40]
        kept = found.scores[image] > 0
        assert found.labels[image][kept].tolist() == [p[1] for p in pairs]
        assert found.index[image][kept].tolist() == [p[2] for p in pairs]
        torch.testing.assert_close(found.scores[image][kept], torch.tensor([p[0] for p in pairs]))
        torch.testing.assert_close(found.boxes[image][kept], torch.stack([p[3] for p in pairs]), rtol=1e-4, atol=1e-3)


def test_only_the_raw_output_of_the_first_stage_carries_gradient() -> None:
    features, images = _inputs()
    raw, proposals = _head().propose(features, images, top=10, keep=7)
    assert proposals.boxes.shape == (2, 7, 4)
    assert raw.logits.requires_grad
    assert raw.codes.requires_grad
    assert not proposals.boxes.requires_grad
    assert not proposals.scores.requires_grad


def test_levels_do_not_suppress_each_other() -> None:
    """Two levels that both propose the whole image keep both."""
    head = _head(proposal_iou=0.0)
    features, images = _inputs()
    raw, proposals = head.propose(features, images)
    first_row = torch.tensor([0, *raw.priors.level_sizes]).cumsum(0)
    levels = torch.bucketize(proposals.index.clamp(min=0), first_row, right=True)
    assert bool((proposals.scores > 0).sum(1).gt(5).all())
    assert levels[proposals.scores > 0].unique().numel() >= 3


@torch.no_grad()
def test_a_image_answers_the_same_alone_and_in_a_batch() -> None:
    head = _head()
    features, images = _inputs(3)
    together = head.decode(head(features, images), images)
    own = [f[1:2] for f in features]
    alone_images = Images(*(x[1:2] for x in images))
    alone = head.decode(head(own, alone_images), alone_images)
    torch.testing.assert_close(together.boxes[1], alone.boxes[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(together.scores[1], alone.scores[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_broken_features_give_empty_rows_and_not_broken_boxes() -> None:
    head = _head()
    features, images = _inputs()
    features = [torch.full_like(f, float("nan")) for f in features]
    found = head.decode(head(features, images), images)
    assert bool((found.scores == 0).all())
    assert bool(found.boxes.isfinite().all())


@pytest.mark.parametrize(
    "proposer",
    [
        part(FCOSHead, num_classes=1, coarsest=64),
        part(ATSSHead, num_classes=1, coarsest=64),
        part(RPNHead, scores="softmax"),
    ],
)
def test_any_dense_head_proposes(proposer: Any) -> None:
    head = _head(proposer=proposer.with_args(channels=8))
    features, images = _inputs()
    raw = head(features, images)
    assert raw.first.logits.shape[-1] == (2 if head.proposer.softmax else 1)
    scores = raw.proposals.scores
    assert bool((scores > 0).any(1).all())
    assert bool((scores.diff(dim=1) <= 1e-6).all())


def test_missing_level_is_named_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"FasterRCNNHead needs a level of stride 4.*\[8, 16, 32, 64\].*finest=8"):
        FasterRCNNHead(SPECS[1:], num_classes=3)


def test_one_argument_moves_both_stages_to_a_coarser_start() -> None:
    head = FasterRCNNHead(SPECS[1:], num_classes=3, finest=8, channels=8)
    assert head.strides == (8, 16, 32)
    features, images = _inputs()
    assert head(features[1:], images).logits.shape[-1] == 4


def test_levels_of_unequal_width_want_a_neck() -> None:
    specs = [s._replace(channels=8 * (i + 1)) for i, s in enumerate(SPECS)]
    with pytest.raises(ValueError, match=r"one width.*\[8, 16, 24, 32\].*put a neck before it"):
        FasterRCNNHead(specs, num_classes=3)
    FasterRCNNHead(specs, num_classes=3, finest=16, coarsest=16, channels=8)


@pytest.mark.parametrize("name", ["num_classes", "proposals", "roi_size"])
def test_counts_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a .* of at least 1, got 0"):
        FasterRCNNHead(SPECS, **{"num_classes": 3, name: 0})


def test_says_where_its_classes_lie() -> None:
    head = _head()
    assert head.class_rows("cls_out.weight") == (1, True, 1)
    assert head.class_rows("box_out.bias") == (1, False, 4)
    assert head.class_rows("fc1.weight") is None
    assert _head(class_agnostic=True).class_rows("box_out.bias") is None
    assert head.class_rows("proposer.branches.0.cls_out.weight") is None


@torch.no_grad()
def test_compiles_whole() -> None:
    torch._dynamo.reset()
    head, (features, images) = _head(), _inputs()

    def detect(features: list[Tensor], images: Images) -> tuple[RoIPredictions, Tensor, Tensor]:
        raw = head(features, images)
        found = head.decode(raw, images)
        return raw, found.boxes, found.scores

    _, boxes, scores = torch.compile(detect, backend="aot_eager", fullgraph=True)(features, images)
    _, want_boxes, want_scores = detect(features, images)
    torch.testing.assert_close(boxes, want_boxes)
    torch.testing.assert_close(scores, want_scores)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext", "test_vit"])
def test_combines_with_backbones(name: str) -> None:
    backbone = part(Timm, name=name)
    finest = min(s.stride for s in backbone.build().out_specs if s.stride >= 4)
    model = Detector(
        backbone=backbone,
        neck=part(FPN, channels=8, finest=finest, coarsest=64, extra="pool"),
        head=part(FasterRCNNHead, num_classes=2, channels=8, finest=finest),
    ).eval()
    before = copy.deepcopy(_inputs(1)[1])
    pixels = torch.rand(1, 3, model.multiple * 3, model.multiple * 2) * 255
    images = Images(pixels, torch.tensor([[90.0, 60.0]]), before.to_original)
    found = model.detect(images)
    assert torch.equal(found.boxes, model.detect(images).boxes)
    assert found.boxes.shape == (1, 100, 4)
