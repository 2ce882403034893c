"""SSD300's and SSD512's heads beside mmdetection's: default boxes, raw outputs, losses, detections."""

from __future__ import annotations

from mmdet_peer import (
    CLASSES,
    ConfigDict,
    assert_detections,
    assert_equal,
    copy_weights,
    flat,
    metas,
    randomise,
    target_sets,
)

# the stand-ins for compiled operations must be there before mmdet is imported
# isort: split
from typing import Any, NamedTuple

import pytest
import torch
from mmdet.models.dense_heads import SSDHead as PeerSSDHead
from torch import Tensor

from torso.parts import find, part
from torso.training.criteria.dense import DenseCriterion
from torso.training.samplers.hard_negative import HardNegativeSampler
from torso.types import FeatureSpec, Images
from torso.zoo.ssd import SSDHead

WIDTH = 16
STRIDES = {300: (8, 16, 32, 64, 100, 300), 512: (8, 16, 32, 64, 128, 256, 512)}
PLACES = {300: (38, 19, 10, 5, 3, 1), 512: (64, 32, 16, 8, 4, 2, 1)}
KEYS = [
    (r"^cls_convs\.(\d)\.0\.", r"branches.\1.cls_out."),
    (r"^reg_convs\.(\d)\.0\.", r"branches.\1.box_out."),
]
SETS = target_sets()


class Both(NamedTuple):
    """The two heads for images of `side` px, in float64, and the maps that they see."""

    side: int
    peer: PeerSSDHead
    ours: SSDHead
    features: list[Tensor]
    images: Images


@pytest.fixture(scope="module", params=STRIDES)
def both(request: pytest.FixtureRequest) -> Both:
    side: int = request.param
    strides = STRIDES[side]
    few = len(strides) - 2
    peer = PeerSSDHead(
        num_classes=CLASSES,
        in_channels=(WIDTH,) * len(strides),
        anchor_generator={
            "type": "SSDAnchorGenerator",
            "scale_major": False,
            "input_size": side,
            "basesize_ratio_range": (0.15, 0.9) if side == 300 else (0.1, 0.9),
            "strides": list(strides),
            "ratios": [[2], *[[2, 3]] * (few - 1), [2], [2]],
        },
        bbox_coder={"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [0.1, 0.1, 0.2, 0.2]},
        train_cfg=ConfigDict(
            assigner={
                "type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "min_pos_iou": 0.0,
                "ignore_iof_thr": -1, "gt_max_assign_all": False,
            },
            sampler={"type": "PseudoSampler"}, smoothl1_beta=1.0, allowed_border=-1, pos_weight=-1, neg_pos_ratio=3,
            debug=False,
        ),
        test_cfg=ConfigDict(
            nms_pre=1000, nms={"type": "nms", "iou_threshold": 0.45}, min_bbox_size=0, score_thr=0.02, max_per_img=200
        ),
    ).double()  # fmt: skip
    peer.loss_cls = None  # its prediction asks for it, its constructor sets none
    randomise(peer)
    head = find(f"ssd{side}", "zoo")(num_classes=CLASSES).get("head").with_args(score_threshold=0.02)
    if side == 512:  # mmdetection cuts the sides to whole pixels
        whole = (20.0, 51.0, 133.0, 215.0, 296.0, 378.0, 460.0, 542.0)
        head = head.with_args(priors=head.get("priors").with_args(sizes=whole))
    ours = head.build([FeatureSpec(WIDTH, (s, s)) for s in strides]).double()
    copy_weights(peer, ours, KEYS)
    g = torch.Generator().manual_seed(3)
    features = [torch.randn(2, WIDTH, n, n, generator=g, dtype=torch.float64) for n in PLACES[side]]
    size = torch.full((2, 2), float(side))
    return Both(side, peer, ours, features, Images(torch.zeros(2, 3, side, side), size, torch.ones(2, 4)))


def metas_of(side: int) -> list[dict[str, Any]]:
    sizes = dict.fromkeys(("img_shape", "pad_shape", "batch_input_shape"), (side, side))
    return [{**meta, **sizes} for meta in metas()]


def test_raw_outputs(both: Both) -> None:
    cls, box = both.peer(both.features)
    raw = both.ours(both.features, both.images)
    what = f"ssd{both.side}"
    assert_equal(f"{what} logits", raw.logits, flat(cls, CLASSES + 1))
    assert_equal(f"{what} codes", raw.codes, flat(box, 4))
    anchors = torch.cat(both.peer.prior_generator.grid_priors([f.shape[-2:] for f in both.features], device="cpu"))
    assert_equal(f"{what} default boxes", raw.priors.boxes, anchors)
    assert len(anchors) == {300: 8732, 512: 24564}[both.side]


@pytest.mark.parametrize("name", SETS)
def test_losses(name: str, both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    targets, peers = SETS[name]
    raw = both.ours(both.features, both.images)
    # boxes of one area and several ratios overlap some targets alike, and rounding decides whose they are
    same = list(raw.priors.boxes.split(raw.priors.level_sizes))
    monkeypatch.setattr(both.peer.prior_generator, "grid_priors", lambda *args, **kwargs: same)
    wanted = both.peer.loss_by_feat(*both.peer(both.features), peers, metas_of(both.side))
    recipe = find(f"ssd{both.side}", "recipes")(num_classes=CLASSES)
    # images without objects teach nothing there, as in the paper
    criterion = recipe.get("criterion").with_args(sampler=part(HardNegativeSampler, ratio=3.0, least=0)).build()
    assert isinstance(criterion, DenseCriterion)
    terms = criterion.terms(raw, targets, both.ours)
    # mmdetection counts at least one positive in each image, the paper's sum over the batch does not
    count = (criterion.assigner(raw.priors, targets).target >= 0).sum(1).clamp(min=1).sum()
    for mine, theirs in (("cls", "loss_cls"), ("box", "loss_bbox")):
        total = torch.stack([torch.as_tensor(x).sum() for x in wanted[theirs]]).sum()
        assert_equal(f"ssd{both.side} {mine} loss, {name}", terms[mine].total / count, total)


def test_detections(both: Both) -> None:
    peer, ours, features = both.peer.float(), both.ours.float(), [f.float() for f in both.features]
    wanted = peer.predict_by_feat(*peer(features), batch_img_metas=metas_of(both.side), rescale=False)
    # of each class mmdetection takes what is among a level's 1,000 best pairs, not the 400 best over all levels
    suppression = find(f"ssd{both.side}", "zoo")().get("suppression").with_args(pre_nms_top_per_class=None).build()
    found = suppression(ours.decode(ours(features, both.images), both.images))
    assert_detections(f"ssd{both.side} detections", found, wanted)
    peer.double(), ours.double()
