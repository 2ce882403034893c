"""GFL beside mmdetection's: raw outputs, losses, detections."""

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
import pytest
import torch
from mmdet.models.dense_heads import GFLHead as PeerGFLHead

from torso.suppression.nms import NMS
from torso.training.criteria.dense import DenseCriterion
from torso.training.recipes.gfl import gfl as recipe
from torso.zoo.gfl import GFLHead, gfl

STRIDES = (8, 16, 32, 64, 128)
WIDTH = 128  # the least that has 32 groups here too
KEYS = [
    (r"^cls_convs\.", "branches.0.cls_tower."),
    (r"^reg_convs\.", "branches.0.box_tower."),
    (r"^gfl_cls\.", "branches.0.cls_out."),
    (r"^gfl_reg\.", "branches.0.box_out."),
    (r"^scales\.\d\.scale$", "scale"),
    (r"\.gn\.", ".norm."),
]
SETS = target_sets()


@pytest.fixture(scope="module")
def peer() -> PeerGFLHead:
    head = PeerGFLHead(
        num_classes=CLASSES,
        in_channels=WIDTH,
        stacked_convs=4,
        feat_channels=WIDTH,
        reg_max=16,
        anchor_generator={
            "type": "AnchorGenerator",
            "ratios": [1.0],
            "octave_base_scale": 8,
            "scales_per_octave": 1,
            "strides": list(STRIDES),
        },
        loss_cls={"type": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0, "loss_weight": 1.0},
        loss_dfl={"type": "DistributionFocalLoss", "loss_weight": 0.25},
        loss_bbox={"type": "GIoULoss", "loss_weight": 2.0},
        train_cfg=ConfigDict(
            assigner={"type": "ATSSAssigner", "topk": 9}, allowed_border=-1, pos_weight=-1, debug=False
        ),
        test_cfg=ConfigDict(
            nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms={"type": "nms", "iou_threshold": 0.6}, max_per_img=100
        ),
    ).double()
    randomise(head)
    return head


@pytest.fixture(scope="module")
def ours(peer: PeerGFLHead) -> GFLHead:
    head = GFLHead(specs(WIDTH, STRIDES), num_classes=CLASSES, channels=WIDTH)
    copy_weights(peer, head.double(), KEYS, constants=["integral.project"])  # the numbers 0 to 16
    return head


def test_raw_outputs(peer: PeerGFLHead, ours: GFLHead) -> None:
    features = pyramid(WIDTH, STRIDES)
    cls, box = peer(features)
    raw = ours(features, images())
    assert_equal("gfl logits", raw.logits, flat(cls, CLASSES))
    assert_equal("gfl codes", raw.codes, flat(box, 68))  # float32 there
    anchors = torch.cat(peer.prior_generator.grid_priors([f.shape[-2:] for f in features], device="cpu"))
    assert_equal("gfl points", raw.priors.centers_xy, peer.anchor_center(anchors))


@pytest.mark.parametrize("name", SETS)
def test_losses(name: str, peer: PeerGFLHead, ours: GFLHead) -> None:
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
    assert_equal(f"gfl cls loss, {name}", terms["cls"].total / count, sum(wanted["loss_cls"]))
    for mine, theirs in (("box", "loss_bbox"), ("dfl", "loss_dfl")):
        value = terms[mine].total / terms[mine].count.clamp(min=1)
        assert_equal(f"gfl {mine} loss, {name}", value, sum(wanted[theirs]))


def test_detections(peer: PeerGFLHead, ours: GFLHead) -> None:
    features = [f.float() for f in pyramid(WIDTH, STRIDES)]
    peer, ours = peer.float(), ours.float()
    wanted = peer.predict_by_feat(*peer(features), batch_img_metas=metas(), rescale=False)
    found = NMS(iou_threshold=0.6)(ours.decode(ours(features, images(dtype=torch.float32)), images()))
    assert_detections("gfl detections", found, wanted)
    peer.double(), ours.double()


def test_parameters() -> None:
    """Those of mmdetection's gfl_r50_fpn_1x_coco, as it counts them."""
    with torch.device("meta"):
        model = gfl().build()
    assert sum(p.numel() for p in model.parameters()) == 32_440_537
    assert sum(p.numel() for p in model.head.parameters()) == 5_063_833
