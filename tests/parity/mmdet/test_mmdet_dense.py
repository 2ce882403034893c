"""RetinaNet and FCOS beside mmdetection's: raw outputs, losses, detections."""

from __future__ import annotations

from mmdet_peer import (
    CLASSES,
    ConfigDict,
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

import pytest
import torch
from mmdet.models.dense_heads import FCOSHead as PeerFCOSHead
from mmdet.models.dense_heads import RetinaHead

from torso.geometry.coders.ltrb import LTRBCoder
from torso.parts import part
from torso.suppression.nms import NMS
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.iou import GIoULoss, IoULoss
from torso.training.losses.l1 import L1Loss
from torso.training.terms.box import BoxTerm
from torso.zoo.fcos import FCOSHead
from torso.zoo.retinanet import RetinaNetHead

STRIDES = (8, 16, 32, 64, 128)
WIDTH = 128  # the least that has 32 groups here too
FOCAL = {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25}
SETS = target_sets()
TOWERS = [
    (r"^cls_convs\.", "branches.0.cls_tower."),
    (r"^reg_convs\.", "branches.0.box_tower."),
    (r"\.gn\.", ".norm."),
]


def retinanets() -> tuple[RetinaHead, RetinaNetHead]:
    """Both heads with the same weights, in float64."""
    peer = RetinaHead(
        num_classes=CLASSES,
        in_channels=WIDTH,
        stacked_convs=2,
        feat_channels=WIDTH,
        loss_cls=FOCAL,
        loss_bbox={"type": "L1Loss"},
        bbox_coder={"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [1.0] * 4},
        train_cfg=ConfigDict(
            assigner={"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0},
            sampler={"type": "PseudoSampler"},
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=ConfigDict(
            nms_pre=1000, min_bbox_size=-1, score_thr=0.05, nms={"type": "nms", "iou_threshold": 0.5}, max_per_img=100
        ),
    ).double()
    randomise(peer)
    ours = RetinaNetHead(specs(WIDTH, STRIDES), num_classes=CLASSES, channels=WIDTH, tower=2).double()
    outputs = [(r"^retina_cls\.", "branches.0.cls_out."), (r"^retina_reg\.", "branches.0.box_out.")]
    copy_weights(peer, ours, [*outputs, *TOWERS])
    return peer, ours


@pytest.mark.parametrize("name", SETS)
def test_retinanet(name: str) -> None:
    peer, ours = retinanets()
    targets, peers = SETS[name]
    features = pyramid(WIDTH, STRIDES)
    raw, theirs = ours(features, images()), peer(features)
    assert_equal("retinanet logits", raw.logits, flat(theirs[0], CLASSES))
    assert_equal("retinanet codes", raw.codes, flat(theirs[1], 4))
    wanted = peer.loss_by_feat(*theirs, peers, metas())
    criterion = DenseCriterion(
        assigner=part(MaxIoUAssigner, rescue_learns="rescued"), box=part(BoxTerm, loss=part(L1Loss))
    )
    terms = criterion.terms(raw, targets, ours)
    count = (criterion.assigner(raw.priors, targets).target >= 0).sum(1).clamp(min=1).sum()
    assert_equal(f"retinanet cls loss, {name}", terms["cls"].total / count, sum(wanted["loss_cls"]))
    assert_equal(f"retinanet box loss, {name}", terms["box"].total / count, sum(wanted["loss_bbox"]))


@torch.no_grad()
@pytest.mark.parametrize("most", [100, 2000])
def test_retinanet_detections(most: int) -> None:
    """The 100 best, as a config has it, and 2,000, where what suppression drops shows.

    mmdetection's config drops boxes of which clipping leaves no side; here, and so in its test_cfg above, they stay.
    """
    peer, ours = retinanets()
    for output in (peer.retina_reg, ours.branches[0].box_out):
        output.weight *= 0.3  # mmdetection makes no side shorter than 16/1000 of the anchor's, here they may be
    features = pyramid(WIDTH, STRIDES)
    theirs = peer(features)
    cfg = ConfigDict({**peer.test_cfg, "max_per_img": most})
    wanted = peer.predict_by_feat(*theirs, batch_img_metas=metas(), cfg=cfg, rescale=False)
    raw = ours(features, images())
    assert raw.codes[..., 2:].min() > math.log(16 / 1000)
    found = NMS(iou_threshold=0.5, max_detections=most)(ours.decode(raw, images()))
    assert_detections(f"retinanet detections of {most}", found, wanted)


def fcoses(radius: float, box_loss: str) -> tuple[PeerFCOSHead, FCOSHead]:
    """Both heads with the same weights, in float64."""
    peer = PeerFCOSHead(
        num_classes=CLASSES,
        in_channels=WIDTH,
        stacked_convs=2,
        feat_channels=WIDTH,
        strides=list(STRIDES),
        center_sampling=radius > 0,
        center_sample_radius=radius,
        norm_on_bbox=True,
        centerness_on_reg=True,
        loss_cls=FOCAL,
        loss_bbox={"type": box_loss, "loss_weight": 1.0},
        test_cfg=ConfigDict(
            nms_pre=10000, min_bbox_size=-1, score_thr=0.0, nms={"type": "nms", "iou_threshold": 0.5}, max_per_img=100
        ),
    ).double()
    randomise(peer)
    peer.conv_reg.bias.data.fill_(2.0)  # distances above 0 nearly everywhere
    ours = FCOSHead(
        specs(WIDTH, STRIDES), num_classes=CLASSES, channels=WIDTH, tower=2, coder=part(LTRBCoder, transform="relu"),
        quality="box", score_threshold=0.0, pre_nms_top=10000,
    )  # fmt: skip
    outputs = [
        (r"^conv_cls\.", "branches.0.cls_out."),
        (r"^conv_reg\.", "branches.0.box_out."),
        (r"^conv_centerness\.", "branches.0.quality_out."),
        (r"^scales\.\d\.scale$", "scale"),
    ]
    copy_weights(peer, ours.double(), [*outputs, *TOWERS])
    return peer, ours


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("box_loss", ["IoULoss", "GIoULoss"])
@pytest.mark.parametrize("radius", [0.0, 1.5])
def test_fcos(radius: float, box_loss: str, name: str) -> None:
    peer, ours = fcoses(radius, box_loss)
    targets, peers = SETS[name]
    features = pyramid(WIDTH, STRIDES)
    raw, theirs = ours(features, images()), peer(features)
    assert_equal("fcos logits", raw.logits, flat(theirs[0], CLASSES))
    assert_equal("fcos codes", raw.codes.clamp(min=0), flat(theirs[1], 4))
    wanted = peer.loss_by_feat(*theirs, peers, metas())
    mine = part(IoULoss, form="log") if box_loss == "IoULoss" else part(GIoULoss)
    assigner = part(FCOSAssigner, radius=radius)
    terms = DenseCriterion(assigner=assigner, box=part(BoxTerm, loss=mine, weighting="quality")).terms(
        raw, targets, ours
    )
    label = f"fcos radius {radius} {box_loss}"
    names = {"cls": "loss_cls", "quality": "loss_centerness", "box": "loss_bbox"}
    for term, key in names.items():
        share = terms[term].total / terms[term].count.clamp(min=1 if term != "box" else 1e-6)
        assert_equal(f"{label} {term} loss, {name}", share, torch.as_tensor(wanted[key]))


@torch.no_grad()
def test_fcos_detections() -> None:
    """Without a score threshold: mmdetection puts it to the class score alone, here it meets the product."""
    peer, ours = fcoses(0.0, "GIoULoss")
    for output in (peer.conv_reg, ours.branches[0].box_out):
        output.weight *= 0.3  # boxes so alike that suppression has to choose
    peer.eval()  # in training it leaves distances in strides
    features = pyramid(WIDTH, STRIDES)
    wanted = peer.predict_by_feat(*peer(features), batch_img_metas=metas(), rescale=False)
    candidates = ours.decode(ours(features, images()), images())
    found = NMS(iou_threshold=0.5)(candidates)
    assert_detections("fcos detections", found, wanted)
    best = candidates.scores.topk(100).values.amin(1)
    assert (found.scores.amin(1) < best).all(), "suppression dropped nothing"
