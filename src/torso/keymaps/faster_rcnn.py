"""torchvision's fasterrcnn_resnet50_fpn as ours: its tensors under our names, its habits as options of our parts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from torso.geometry.priors.anchors import Anchors
from torso.heads.rpn import RPNHead
from torso.models.detector import Detector
from torso.parts import Part, part
from torso.zoo.faster_rcnn import faster_rcnn

_RENAMED = (
    (r"backbone\.body\.(.*)", r"backbone.body.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d+)\.0\.(.*)", r"neck.0.lateral.\1.conv.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d+)\.0\.(.*)", r"neck.0.output.\1.conv.\2"),
    (r"rpn\.head\.conv\.0\.0\.(.*)", r"head.proposer.branches.0.cls_tower.0.conv.\1"),
    (r"rpn\.head\.cls_logits\.(.*)", r"head.proposer.branches.0.cls_out.\1"),
    (r"rpn\.head\.bbox_pred\.(.*)", r"head.proposer.branches.0.box_out.\1"),
    (r"roi_heads\.box_head\.fc6\.(.*)", r"head.fc1.\1"),
    (r"roi_heads\.box_head\.fc7\.(.*)", r"head.fc2.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"head.cls_out.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"head.box_out.\1"),
)
_OUR_EPS = 1e-5  # of BatchNorm


def torchvision_to_torso(state: Mapping[str, Tensor], *, norm_eps: float = _OUR_EPS) -> dict[str, Tensor]:
    """The tensors of torchvision's model for torchvision_recipe(); label k of torchvision is our k - 1.

    Its background is the first class and has boxes, which nothing reads: it becomes our last class, the boxes go.
    norm_eps: of its frozen norms, 0.0 in its published weights of version 1, else 1e-5; the difference is put into the
    stored variances. Raises ValueError for a name that its model does not have.
    """
    out = {}
    for name, value in state.items():
        ours = _renamed(name)
        if ours.startswith("head.cls_out."):
            value = torch.cat([value[1:], value[:1]])
        elif ours.startswith("head.box_out."):
            value = value[4:]
        elif ours.endswith(".running_var"):
            value = value + (norm_eps - _OUR_EPS)
            out[ours.replace("running_var", "num_batches_tracked")] = torch.zeros((), dtype=torch.int64)
        if not ours.endswith("num_batches_tracked"):
            out[ours] = value
    return out


def torchvision_recipe(num_classes: int = 90) -> Part[Detector]:
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


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    raise ValueError(f"{name!r} is no tensor of torchvision's fasterrcnn_resnet50_fpn; give its state_dict()")
