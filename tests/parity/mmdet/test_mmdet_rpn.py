"""RPN beside mmdetection's: anchors, raw outputs, who learns what, losses, proposals, detections."""

from __future__ import annotations

from mmdet_peer import (
    ConfigDict,
    InstanceData,
    assert_detections,
    assert_equal,
    copy_weights,
    flat,
    images,
    metas,
    pyramid,
    randomise,
    specs,
    target_sets,
)

# the stand-ins for compiled operations must be there before mmdet is imported
# isort: split
import math
from collections.abc import Sequence

import pytest
import torch
from mmdet.models.dense_heads import RPNHead as PeerRPNHead
from torch import Tensor

from torso.heads._roi_proposals import best_proposals
from torso.heads.rpn import RPNHead
from torso.parts import Part, part
from torso.training.assignment import IGNORED, Assignment
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses._base import BoxLoss
from torso.training.losses.l1 import L1Loss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.recipes.rpn import rpn as recipe
from torso.training.samplers.random import RandomSampler
from torso.training.terms.box import BoxTerm
from torso.types import Candidates
from torso.zoo.rpn import rpn

STRIDES = (4, 8, 16, 32, 64)
WIDTH = 32
EVERY = 10**6  # a budget that takes every row: both sides draw at random
KEYS = [
    (r"^rpn_conv\.", "branches.0.cls_tower.0.conv."),
    (r"^rpn_cls\.", "branches.0.cls_out."),
    (r"^rpn_reg\.", "branches.0.box_out."),
]
SETS = target_sets()
BOX_LOSSES: dict[str, tuple[dict[str, object], Part[BoxLoss]]] = {
    "smooth_l1": ({"type": "SmoothL1Loss", "beta": 1 / 9}, part(SmoothL1Loss, beta=1 / 9)),
    "l1": ({"type": "L1Loss"}, part(L1Loss)),
}


def peer_head(box_loss: str = "smooth_l1", width: int = WIDTH) -> PeerRPNHead:
    head = PeerRPNHead(
        in_channels=width,
        feat_channels=width,
        anchor_generator={
            "type": "AnchorGenerator", "scales": [8], "ratios": [0.5, 1.0, 2.0], "strides": list(STRIDES),
        },
        bbox_coder={"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [1.0] * 4},
        loss_cls={"type": "CrossEntropyLoss", "use_sigmoid": True},
        loss_bbox=BOX_LOSSES[box_loss][0],
        train_cfg=ConfigDict(
            assigner={
                "type": "MaxIoUAssigner", "pos_iou_thr": 0.7, "neg_iou_thr": 0.3, "min_pos_iou": 0.3,
                "ignore_iof_thr": -1,
            },
            sampler={"type": "RandomSampler", "num": EVERY, "pos_fraction": 0.5, "add_gt_as_proposals": False},
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=ConfigDict(
            nms_pre=2000, max_per_img=1000, nms={"type": "nms", "iou_threshold": 0.7}, min_bbox_size=0
        ),
    ).double()  # fmt: skip
    randomise(head)
    return head


def our_head(peer: PeerRPNHead) -> RPNHead:
    head = RPNHead(specs(WIDTH, STRIDES), channels=WIDTH).double()
    copy_weights(peer, head, KEYS)
    return head


def criterion_of(box_loss: str) -> DenseCriterion:
    """The recipe's, its budget that of the peer; what is rescued learns as there."""
    wanted = recipe().get("criterion")
    criterion = wanted.with_args(
        assigner=wanted.get("assigner").with_args(rescue_learns="rescued"),
        box=part(BoxTerm, loss=BOX_LOSSES[box_loss][1]),
        sampler=part(RandomSampler, number=EVERY, positive_share=0.5),
    ).build()
    assert isinstance(criterion, DenseCriterion)
    return criterion


def as_objects(instances: list[InstanceData]) -> list[InstanceData]:
    """Of the one class that a proposer knows, as mmdetection's RPN makes them."""
    return [InstanceData(bboxes=t.bboxes, labels=torch.zeros_like(t.labels)) for t in instances]


def test_raw_outputs() -> None:
    peer = peer_head()
    ours, features = our_head(peer), pyramid(WIDTH, STRIDES)
    cls, box = peer(features)
    raw = ours(features, images())
    assert_equal("rpn logits", raw.logits, flat(cls, 1))
    assert_equal("rpn codes", raw.codes, flat(box, 4))
    anchors = torch.cat(peer.prior_generator.grid_priors([f.shape[-2:] for f in features], device="cpu"))
    assert_equal("rpn anchors", raw.priors.boxes, anchors)


def drawn_there(peer: PeerRPNHead, anchors: Tensor, instances: list[InstanceData]) -> tuple[Tensor, Tensor]:
    """[B, N] rows of our targets (row 0 is a crowd there, so targets count from 1), and how many each image counts."""
    targets, counts = [], []
    for instance in instances:
        priors = InstanceData(priors=anchors)
        result = peer.assigner.assign(priors, instance)
        sampled = peer.sampler.sample(result, priors, instance)
        target = torch.full_like(result.gt_inds, IGNORED)
        target[sampled.pos_inds] = result.gt_inds[sampled.pos_inds]
        target[sampled.neg_inds] = -1
        targets.append(target)
        counts.append(sampled.avg_factor)
    return torch.stack(targets), torch.tensor(counts)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("box_loss", BOX_LOSSES)
def test_losses(box_loss: str, name: str) -> None:
    peer = peer_head(box_loss)
    ours, features = our_head(peer), pyramid(WIDTH, STRIDES)
    targets, instances = SETS[name][0], as_objects(SETS[name][1])
    targets = targets._replace(labels=torch.zeros_like(targets.labels))
    raw = ours(features, images())
    criterion = criterion_of(box_loss)
    assignment = criterion.assigner(raw.priors, targets)
    assert isinstance(assignment, Assignment)
    assert criterion.sampler is not None
    drawn = criterion.sampler(assignment)
    wanted_rows, counts = drawn_there(peer, raw.priors.boxes, instances)
    assert torch.equal(drawn.target, wanted_rows), f"{(drawn.target != wanted_rows).sum()} rows differ"
    assert bool((wanted_rows > 0).any()) == any(len(t.labels) for t in instances)
    wanted = peer.loss_by_feat(*peer(features), instances, metas())
    terms = criterion.terms(raw, targets, ours)
    used = (drawn.target != IGNORED).sum()
    assert float(terms["cls"].count) == float(terms["box"].count) == float(used)
    # mmdetection counts at least one positive in each image, so one row too many where there is none
    assert int(counts.sum() - used) == int((drawn.target < 0).all(1).sum())
    for mine, theirs in (("cls", "loss_rpn_cls"), ("box", "loss_rpn_bbox")):
        value = terms[mine].total / counts.sum()
        assert_equal(f"rpn {mine} loss, {box_loss}, {name}", value, sum(wanted[theirs]))


@torch.no_grad()
@pytest.mark.parametrize("nms_pre", [2000, 100])
def test_proposals(nms_pre: int) -> None:
    """In float64, where no two scores are equal: in float32 some are, which mmdetection orders by chance."""
    peer = peer_head()
    peer.rpn_reg.weight.data *= 0.3  # mmdetection makes no side shorter than 16/1000 of the anchor's, here they may be
    ours, features = our_head(peer), pyramid(WIDTH, STRIDES)
    cfg = ConfigDict({**peer.test_cfg, "nms_pre": nms_pre})
    wanted = peer.predict_by_feat(*peer(features), batch_img_metas=metas(), cfg=cfg, rescale=False)
    raw = ours(features, images())
    assert raw.codes[..., 2:].min() > math.log(16 / 1000)
    found = best_proposals(raw, ours, images(), top=nms_pre, keep=1000, iou_threshold=0.7, min_size=0.0)
    assert_detections(f"rpn proposals of {nms_pre} a level", found, wanted)
    assert all(len(w.scores) > 100 for w in wanted)


def in_our_order(found: Candidates, peers: Sequence[InstanceData]) -> list[InstanceData]:
    """The peer's rows as ours lie: neighbours whose scores float32, as ours are, cannot tell may change places."""
    ordered = []
    for boxes, scores, peer in zip(found.boxes, found.scores, peers, strict=True):
        count = int((scores > 0).sum())
        ours = torch.cat([boxes[:count], 1e3 * scores[:count, None]], dim=1).double()
        theirs = torch.cat([peer.bboxes, 1e3 * peer.scores[:, None]], dim=1)
        nearest = torch.cdist(ours, theirs, p=torch.inf).argmin(1)
        places = torch.arange(len(peer.scores))
        assert torch.equal(nearest.sort().values, places), "not the same boxes"
        assert (nearest - places).abs().max() <= 1
        ordered.append(peer[nearest])
    return ordered


@pytest.mark.parametrize("nms_pre", [2000, 100])
def test_detections(nms_pre: int) -> None:
    """zoo.rpn from pixels on, random weights, against mmdetection's head on the maps of its neck; in float64."""
    torch.manual_seed(0)
    model = rpn().override("head.pre_nms_top", nms_pre).build().double().eval().requires_grad_(False)
    peer = peer_head(width=256).requires_grad_(False)
    peer.rpn_conv.weight *= 8  # a neck without norms says little at first; scores should reach from 0 to 1
    peer.rpn_reg.weight *= 0.3  # as in test_proposals
    copy_weights(peer, model.head, KEYS)
    maps = model.features(images())
    cls, box = peer(maps)
    assert flat(box, 4)[..., 2:].min() > math.log(16 / 1000)
    cfg = ConfigDict({**peer.test_cfg, "nms_pre": nms_pre})
    wanted = peer.predict_by_feat(cls, box, batch_img_metas=metas(), cfg=cfg, rescale=False)
    found = model.detect(images())
    assert all(len(w.scores) > 200 for w in wanted)
    assert_detections(f"zoo.rpn detections, {nms_pre} a level", found, in_our_order(found, wanted))
