"""The dense criterion as YOLOX, GFL and SSD beside the losses of mmdetection's heads, on the same raw maps."""

from __future__ import annotations

from mmdet_peer import CLASSES, SIZE_HW, ConfigDict, assert_equal, flat, metas, specs, target_sets

# the stand-ins for compiled operations must be there before mmdet is imported
# isort: split
import pytest
import torch
from mmdet.models.dense_heads import GFLHead as PeerGFLHead
from mmdet.models.dense_heads import SSDHead as PeerSSDHead
from mmdet.models.dense_heads import YOLOXHead as PeerYOLOXHead
from torch import Tensor

from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.coders.distribution import DistributionCoder
from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.parts import part
from torso.training.assigners.atss import ATSSAssigner
from torso.training.assigners.simota import SimOTAAssigner
from torso.training.assigners.ssd import SSDAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.cross_entropy import CrossEntropyLoss
from torso.training.losses.iou import GIoULoss, IoULoss
from torso.training.losses.qfl import QFLLoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.samplers.hard_negative import HardNegativeSampler
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.distribution import DistributionTerm
from torso.training.terms.quality import QualityTerm
from torso.types import DensePredictions

STRIDES = (8, 16, 32, 64, 128)
SETS = target_sets()


def maps(values: int, strides: tuple[int, ...], seed: int, scale: float = 1.0) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    sizes = [(SIZE_HW[0] // s, SIZE_HW[1] // s) for s in strides]
    return [torch.randn(2, values, h, w, generator=g) * scale for h, w in sizes]


def raw_of(
    head: DenseHead, cls: list[Tensor], box: list[Tensor], quality: list[Tensor] | None = None
) -> DensePredictions:
    priors = head.priors([(m.shape[2], m.shape[3]) for m in cls], SIZE_HW)
    width = head.coder.width
    objectness = None if quality is None else flat(quality, 1)[..., 0]
    return DensePredictions(flat(cls, head.columns), flat(box, width), priors, objectness)


def head_of(strides: tuple[int, ...], **more: object) -> DenseHead:
    return DenseHead(
        specs(8, strides), num_classes=CLASSES, channels=8, tower=0, finest=strides[0], coarsest=strides[-1], **more
    )


def assert_terms(label: str, terms: object, peer: dict[str, object], names: dict[str, str], count: Tensor) -> None:
    for mine, theirs in names.items():
        total = peer[theirs]
        wanted = torch.stack([torch.as_tensor(x).sum() for x in total]).sum() if isinstance(total, list) else total
        term = terms[mine]  # type: ignore[index]
        by = count if mine in ("cls", "objectness") or label.startswith("ssd") else term.count.clamp(min=1)
        assert_equal(f"{label}, {mine} loss", term.total / by, torch.as_tensor(wanted).reshape(()))


@pytest.mark.parametrize("name", SETS)
def test_yolox(name: str) -> None:
    strides = STRIDES[:3]
    peer = PeerYOLOXHead(
        num_classes=CLASSES,
        in_channels=8,
        feat_channels=8,
        strides=list(strides),
        train_cfg=ConfigDict(assigner={"type": "SimOTAAssigner", "center_radius": 2.5}),
        test_cfg=ConfigDict(),
    )
    targets, peers = SETS[name]
    outputs = [maps(CLASSES, strides, 1), maps(4, strides, 2, 0.7), maps(1, strides, 3)]
    wanted = peer.loss_by_feat(*outputs, peers, metas())
    head = head_of(strides, priors=part(Points, offset=0.0), coder=part(DeltaCoder), quality="box")
    criterion = DenseCriterion(
        assigner=part(SimOTAAssigner),
        cls=part(ClassificationTerm, loss=part(BCELoss), on="positives"),
        box=part(BoxTerm, loss=part(IoULoss, form="square"), weight=5.0),
        quality=part(QualityTerm, on="used", target="one"),
    )
    terms = criterion.terms(raw_of(head, outputs[0], outputs[1], outputs[2]), targets, head)
    names = {"cls": "loss_cls", "box": "loss_bbox", "objectness": "loss_obj"}
    assert_terms(f"yolox {name}", terms, wanted, names, terms["cls"].count.clamp(min=1))


@pytest.mark.parametrize("name", SETS)
def test_gfl(name: str) -> None:
    peer = PeerGFLHead(
        num_classes=CLASSES,
        in_channels=32,
        stacked_convs=1,
        feat_channels=32,
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
        test_cfg=ConfigDict(),
    )
    targets, peers = SETS[name]
    outputs = [maps(CLASSES, STRIDES, 1), maps(68, STRIDES, 2)]
    wanted = peer.loss_by_feat(*outputs, peers, metas())
    head = head_of(STRIDES, priors=part(Points, offset=0.0), coder=part(DistributionCoder, reg_max=16))
    criterion = DenseCriterion(
        assigner=part(ATSSAssigner),
        cls=part(ClassificationTerm, loss=part(QFLLoss)),
        box=part(BoxTerm, loss=part(GIoULoss), weighting="score", weight=2.0),
        distribution=part(DistributionTerm, weight=0.25),
    )
    raw = raw_of(head, *outputs)
    terms = criterion.terms(raw, targets, head)
    # mmdetection counts at least one positive in each image, the paper's sum over the batch does not
    count = (ATSSAssigner()(raw.priors, targets).target >= 0).sum(1).clamp(min=1).sum()
    assert_terms(f"gfl {name}", terms, wanted, {"cls": "loss_cls", "box": "loss_bbox", "dfl": "loss_dfl"}, count)


@pytest.mark.parametrize("name", SETS)
def test_ssd(name: str) -> None:
    strides = STRIDES[:4]
    peer = PeerSSDHead(
        num_classes=CLASSES,
        in_channels=(8,) * 4,
        anchor_generator={
            "type": "AnchorGenerator",
            "ratios": [0.5, 1.0, 2.0],
            "octave_base_scale": 3,
            "scales_per_octave": 1,
            "strides": list(strides),
        },
        bbox_coder={"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [0.1, 0.1, 0.2, 0.2]},
        train_cfg=ConfigDict(
            assigner={
                "type": "MaxIoUAssigner",
                "pos_iou_thr": 0.5,
                "neg_iou_thr": 0.5,
                "min_pos_iou": 0.0,
                "ignore_iof_thr": -1,
                "gt_max_assign_all": False,
            },
            sampler={"type": "PseudoSampler"},
            smoothl1_beta=1.0,
            allowed_border=-1,
            pos_weight=-1,
            neg_pos_ratio=3,
            debug=False,
        ),
        test_cfg=ConfigDict(),
    )
    targets, peers = SETS[name]
    outputs = [maps(3 * (CLASSES + 1), strides, 1), maps(12, strides, 2)]
    wanted = peer.loss_by_feat(*outputs, peers, metas())
    anchors = part(Anchors, base_scale=3.0, octave_scales=1, ratios=(0.5, 1.0, 2.0))
    coder = part(DeltaCoder, weights=(10.0, 10.0, 5.0, 5.0))
    head = head_of(strides, priors=anchors, coder=coder, scores="softmax")
    criterion = DenseCriterion(
        assigner=part(SSDAssigner),
        cls=part(ClassificationTerm, loss=part(CrossEntropyLoss)),
        box=part(BoxTerm, loss=part(SmoothL1Loss)),
        sampler=part(HardNegativeSampler, ratio=3.0),
    )
    raw = raw_of(head, *outputs)
    terms = criterion.terms(raw, targets, head)
    count = (SSDAssigner()(raw.priors, targets).target >= 0).sum(1).clamp(min=1).sum()
    assert_terms(f"ssd {name}", terms, wanted, {"cls": "loss_cls", "box": "loss_bbox"}, count)
