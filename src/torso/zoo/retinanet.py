"""RetinaNet: one stage, dense anchors, focal loss (Lin et al. 2017, arXiv 1708.02002)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from torso.backbones.timm import Timm
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors.anchors import Anchors
from torso.heads.dense import DenseHead
from torso.inputs.short_side import ShortSide
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import Part, part
from torso.suppression.nms import NMS
from torso.zoo._rename import TORCHVISION_RESNET_FPN, renamed, with_own_norms


class RetinaNetHead(
    DenseHead,
    tower=4,
    priors=part(Anchors, base_scale=4.0, octave_scales=3, ratios=(0.5, 1.0, 2.0)),
    coder=part(DeltaCoder),
    prior_probability=0.01,
    score_threshold=0.05,
):
    """RetinaNet's head: two towers, nine anchors a location, sigmoid scores (Lin et al. 2017, arXiv 1708.02002).

    The dense head in the paper's setting: anchors of side 4 strides x 2^(0, 1/3, 2/3) at ratios 1/2, 1, 2. torchvision
    truncates the sides, rounds the corners and takes the stride from the image: `torchvision_model` has that form.
    """


def retinanet(*, num_classes: int = 80) -> Part[Detector]:
    """ResNet-50, FPN P3-P7 with P6 from C5, nine anchors a location.

    Published: AP 35.7 (R50, 800, COCO test-dev); mmdetection's 1x schedule 36.5 on val2017.
    37,968,692 parameters with 80 classes.
    """
    return part(
        Detector,
        backbone=part(Timm, name="resnet50", frozen_stride=4, frozen_norm=True),
        neck=part(FPN, channels=256, finest=8, coarsest=128, extra="conv_c5"),
        head=part(RetinaNetHead, num_classes=num_classes, finest=8, coarsest=128),
        suppression=part(NMS, iou_threshold=0.5),
        input=part(ShortSide, short=800, longest=1333),
    )


# torchvision's RetinaNet (retinanet_resnet50_fpn, v1): its weights in torso's names, its model as a composition.

_RULES = (
    *TORCHVISION_RESNET_FPN,
    (r"head\.classification_head\.conv\.(\d+)\.0\.(.+)", r"head.branches.0.cls_tower.\1.conv.\2"),
    (r"head\.classification_head\.cls_logits\.(.+)", r"head.branches.0.cls_out.\1"),
    (r"head\.regression_head\.conv\.(\d+)\.0\.(.+)", r"head.branches.0.box_tower.\1.conv.\2"),
    (r"head\.regression_head\.bbox_reg\.(.+)", r"head.branches.0.box_out.\1"),
)


def torchvision_to_torso(state: Mapping[str, Tensor], *, norm_eps: float = 1e-5) -> dict[str, Tensor]:
    """The state_dict() of torchvision's model as that of `torchvision_model(...).build()`.

    norm_eps: of its norms: 1e-5 as built, 0.0 in the model that comes with the COCO_V1 weights.
    Raises ValueError for tensors of another model.
    """
    return with_own_norms(renamed(state, _RULES, "torchvision's retinanet_resnet50_fpn"), norm_eps)


def torchvision_model(*, num_classes: int = 91) -> Part[Detector]:
    """torchvision's network with its choices, which differ from the paper's, written as arguments.

    P6 is made from P5; anchor sides are whole pixels and corners rounded; anchors stand image // map pixels apart,
    which differs from the stride where a map was rounded up; 300 detections an image.
    num_classes counts what torchvision counts: 91 outputs for COCO's ids 0..90, of which 0 is never used.
    """
    sides = tuple((s, int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in (32, 64, 128, 256, 512))
    return part(
        Detector,
        backbone=part(Timm, name="resnet50", frozen_stride=4, frozen_norm=True),
        neck=part(FPN, channels=256, finest=8, coarsest=128, extra="conv_p5"),
        head=part(
            RetinaNetHead,
            num_classes=num_classes,
            priors=part(
                Anchors,
                sizes=tuple(tuple(map(float, level)) for level in sides),
                ratios=(0.5, 1.0, 2.0),
                rounded=True,
                stride_from="image",
            ),
        ),
        suppression=part(NMS, iou_threshold=0.5, max_detections=300),
        input=part(ShortSide, short=800, longest=1333),
    )
