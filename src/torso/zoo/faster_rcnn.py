"""Faster R-CNN: proposals, then a class and a finer box for each (Ren et al. 2015, arXiv 1506.01497)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from torso.backbones.timm import Timm
from torso.geometry.priors.anchors import Anchors
from torso.heads.faster_rcnn import FasterRCNNHead
from torso.heads.rpn import RPNHead
from torso.inputs.short_side import ShortSide
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import Part, part
from torso.suppression.nms import NMS
from torso.zoo._rename import TORCHVISION_RESNET_FPN, renamed, with_own_norms


def faster_rcnn(*, num_classes: int = 80) -> Part[Detector]:
    """ResNet-50, FPN P2-P6 (arXiv 1612.03144), RoIAlign at aligned pixels with four points a bin.

    Published: R50-FPN 1x on COCO val2017 37.4 AP (mmdetection), 37.9 (detectron2), 37.0 (torchvision).
    41,753,056 parameters with 80 classes.
    """
    return part(
        Detector,
        backbone=part(Timm, name="resnet50", frozen_stride=4, frozen_norm=True),
        neck=part(FPN, channels=256, finest=4, coarsest=64, extra="pool"),
        head=part(FasterRCNNHead, num_classes=num_classes, finest=4, coarsest=32),
        suppression=part(NMS, iou_threshold=0.5),
        input=part(ShortSide, short=800, longest=1333),
    )


# torchvision's fasterrcnn_resnet50_fpn: its weights in torso's names, its model as a composition.

_RULES = (
    *TORCHVISION_RESNET_FPN,
    (r"rpn\.head\.conv\.0\.0\.(.+)", r"head.proposer.branches.0.cls_tower.0.conv.\1"),
    (r"rpn\.head\.cls_logits\.(.+)", r"head.proposer.branches.0.cls_out.\1"),
    (r"rpn\.head\.bbox_pred\.(.+)", r"head.proposer.branches.0.box_out.\1"),
    (r"roi_heads\.box_head\.fc6\.(.+)", r"head.fc1.\1"),
    (r"roi_heads\.box_head\.fc7\.(.+)", r"head.fc2.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(.+)", r"head.cls_out.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.+)", r"head.box_out.\1"),
)


def torchvision_to_torso(state: Mapping[str, Tensor], *, norm_eps: float = 1e-5) -> dict[str, Tensor]:
    """The state_dict() of torchvision's model as that of `torchvision_model(...).build()`.

    Label k of torchvision is our k - 1: its background, the first class, becomes our last; the background's boxes,
    which nothing reads, go. norm_eps: of its frozen norms, 0.0 in its published weights of version 1, else 1e-5.
    Raises ValueError for tensors of another model.
    """
    out = with_own_norms(renamed(state, _RULES, "torchvision's fasterrcnn_resnet50_fpn"), norm_eps)
    for name, value in out.items():
        if name.startswith("head.cls_out."):
            out[name] = value.roll(-1, dims=0)
        elif name.startswith("head.box_out."):
            out[name] = value[4:]
    return out


def torchvision_model(*, num_classes: int = 90) -> Part[Detector]:
    """Our Faster R-CNN with torchvision's habits; num_classes is without background, so one less than its own.

    Anchors are rounded and stand at multiples of image // map size; RoIAlign has no half pixel; boxes under 1e-3 px
    (proposals) and 1e-2 px (detections) a side go; no pair above the score threshold is left out before suppression.
    """
    model = faster_rcnn(num_classes=num_classes)
    anchors = part(Anchors, base_scale=8.0, octave_scales=1, ratios=(0.5, 1.0, 2.0), rounded=True, stride_from="image")
    head = model.get("head").with_args(
        proposer=part(RPNHead, priors=anchors),
        proposal_min_size=1e-3,
        sampling=2,
        aligned=False,
        min_size=1e-2,
        pre_nms_top=19_000,  # 1,000 proposals, of whose classes at most 19 can score more than 0.05
    )
    return model.with_args(head=head)
