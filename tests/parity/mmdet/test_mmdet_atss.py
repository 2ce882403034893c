"""ATSS beside mmdetection's: raw outputs, who learns what, losses, detections."""

from __future__ import annotations

from mmdet_peer import (
    CLASSES,
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
import pytest
import torch
from mmdet.models.dense_heads import ATSSHead as PeerATSSHead
from mmdet.models.task_modules.assigners import ATSSAssigner as PeerATSSAssigner

from torso.suppression.nms import NMS
from torso.training.criteria.dense import DenseCriterion
from torso.training.recipes.atss import atss as recipe
from torso.zoo.atss import ATSSHead

STRIDES = (8, 16, 32, 64, 128)
WIDTH = 128  # the least that has 32 groups here too
TOWER = [(r"\.gn\.", ".norm.")]
KEYS = [
    (r"^cls_convs\.", "branches.0.cls_tower."),
    (r"^reg_convs\.", "branches.0.box_tower."),
    (r"^atss_cls\.", "branches.0.cls_out."),
    (r"^atss_reg\.", "branches.0.box_out."),
    (r"^atss_centerness\.", "branches.0.quality_out."),
    (r"^scales\.\d\.scale$", "scale"),
    *TOWER,
]
SETS = target_sets()


@pytest.fixture(scope="module")
def peer() -> PeerATSSHead:
    head = PeerATSSHead(
        num_classes=CLASSES,
        in_channels=WIDTH,
        stacked_convs=4,
        feat_channels=WIDTH,
        anchor_generator={
            "type": "AnchorGenerator",
            "ratios": [1.0],
            "octave_base_scale": 8,
            "scales_per_octave": 1,
            "strides": list(STRIDES),
        },
        bbox_coder={"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [0.1, 0.1, 0.2, 0.2]},
        loss_cls={"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25},
        loss_bbox={"type": "GIoULoss", "loss_weight": 2.0},
        train_cfg=ConfigDict(assigner={"type": "PeerATSSAssigner", "topk": 9}, allowed_border=-1, pos_weight=-1),
        test_cfg=ConfigDict(
            nms_pre=10000, min_bbox_size=-1, score_thr=0.0, nms={"type": "nms", "iou_threshold": 0.6}, max_per_img=100
        ),
    ).double()
    randomise(head)
    return head


@pytest.fixture(scope="module")
def ours(peer: PeerATSSHead) -> ATSSHead:
    head = ATSSHead(specs(WIDTH, STRIDES), num_classes=CLASSES, channels=WIDTH, score_threshold=0.0, pre_nms_top=10000)
    copy_weights(peer, head.double(), KEYS)
    return head


def test_raw_outputs(peer: PeerATSSHead, ours: ATSSHead) -> None:
    features = pyramid(WIDTH, STRIDES)
    cls, box, centerness = peer(features)
    raw = ours(features, images())
    assert_equal("atss logits", raw.logits, flat(cls, CLASSES))
    assert_equal("atss codes", raw.codes, flat(box, 4))
    assert_equal("atss centerness", raw.quality[..., None], flat(centerness, 1))
    anchors = torch.cat(peer.prior_generator.grid_priors([f.shape[-2:] for f in features], device="cpu"))
    assert_equal("atss anchors", raw.priors.boxes, anchors)


@pytest.mark.parametrize("name", SETS)
def test_assigner(name: str, ours: ATSSHead) -> None:
    targets, peers = SETS[name]
    priors = ours(pyramid(WIDTH, STRIDES), images()).priors
    assignment = recipe().get("criterion").get("assigner").build()(priors, targets)
    for i, instance in enumerate(peers):
        result = PeerATSSAssigner(topk=9).assign(InstanceData(priors=priors.boxes), priors.level_sizes, instance)
        # 0 is background there; here row 0 is a crowd and row 1 the first real target
        wanted = torch.where(result.gt_inds > 0, result.gt_inds, -1)
        assert torch.equal(assignment.target[i], wanted), f"{(assignment.target[i] != wanted).sum()} places differ"
        assert (wanted > 0).any() == (len(instance.labels) > 0)


@pytest.mark.parametrize("name", SETS)
def test_losses(name: str, peer: PeerATSSHead, ours: ATSSHead) -> None:
    targets, peers = SETS[name]
    features = pyramid(WIDTH, STRIDES)
    wanted = peer.loss_by_feat(*peer(features), peers, metas())
    raw = ours(features, images())
    criterion = recipe().get("criterion").build()
    assert isinstance(criterion, DenseCriterion)
    terms = criterion.terms(raw, targets, ours)
    positives = (criterion.assigner(raw.priors, targets).target >= 0).sum(1)
    # mmdetection counts at least one positive in each image, the paper's sum over the batch does not
    count = positives.clamp(min=1).sum()
    assert_equal(f"atss cls loss, {name}", terms["cls"].total / count, sum(wanted["loss_cls"]))
    assert_equal(f"atss quality loss, {name}", terms["quality"].total / count, sum(wanted["loss_centerness"]))
    box = terms["box"].total / terms["box"].count.clamp(min=1)
    assert_equal(f"atss box loss, {name}", box, sum(wanted["loss_bbox"]))


def test_detections(peer: PeerATSSHead, ours: ATSSHead) -> None:
    features = [f.float() for f in pyramid(WIDTH, STRIDES)]
    peer, ours = peer.float(), ours.float()
    wanted = peer.predict_by_feat(*peer(features), batch_img_metas=metas(), rescale=False)
    found = NMS(iou_threshold=0.6)(ours.decode(ours(features, images(dtype=torch.float32)), images()))
    assert_detections("atss detections", found, wanted)
    peer.double(), ours.double()
