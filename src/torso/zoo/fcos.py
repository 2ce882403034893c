"""FCOS: one stage, one point a location, no anchors (Tian et al. 2019, arXiv 1904.01355)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from torso.backbones.timm import Timm
from torso.geometry.coders.ltrb import LTRBCoder
from torso.geometry.priors.points import Points
from torso.heads.dense import DenseHead
from torso.inputs.short_side import ShortSide
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import Part, part
from torso.suppression.nms import NMS
from torso.zoo._rename import TORCHVISION_RESNET_FPN, renamed, with_own_norms


class FCOSHead(
    DenseHead,
    tower=4,
    norm="gn",
    priors=part(Points, offset=0.5),
    coder=part(LTRBCoder, transform="exp"),
    quality="cls",
    fusion="product",
    level_scale=True,
    prior_probability=0.01,
):
    """FCOS's head: one point a location, distances to the four sides, centerness (Tian et al. 2019, arXiv 1904.01355).

    The dense head in the paper's setting.

    Centerness sits on the classification tower as in the paper; the authors' later code and torchvision put it on the
    box tower (quality="box"). The score is class * centerness; torchvision takes its square root (fusion="sqrt").
    """


def fcos(*, num_classes: int = 80) -> Part[Detector]:
    """ResNet-50, FPN P3-P7 with P6 from P5, group-normed towers, centerness.

    Published: mmdetection's R50-caffe 1x schedule 36.6 AP on COCO val2017; 32,295,322 parameters with 80 classes.
    """
    return part(
        Detector,
        backbone=part(Timm, name="resnet50", frozen_stride=4, frozen_norm=True),
        neck=part(FPN, channels=256, finest=8, coarsest=128, extra="conv_p5"),
        head=part(FCOSHead, num_classes=num_classes, finest=8, coarsest=128),
        suppression=part(NMS, iou_threshold=0.6),
        input=part(ShortSide, short=800, longest=1333),
    )


# torchvision's FCOS (fcos_resnet50_fpn): its weights in torso's names, its model as a composition.

# its towers are flat: convolution, norm and activation take three places a layer
_LAYERS = tuple(
    (rf"head\.{theirs}_head\.conv\.{3 * i + k}\.(.+)", rf"head.branches.0.{ours}_tower.{i}.{piece}.\1")
    for theirs, ours in (("classification", "cls"), ("regression", "box"))
    for i in range(4)
    for k, piece in enumerate(("conv", "norm"))
)
_RULES = (
    *TORCHVISION_RESNET_FPN,
    *_LAYERS,
    (r"head\.classification_head\.cls_logits\.(.+)", r"head.branches.0.cls_out.\1"),
    (r"head\.regression_head\.bbox_reg\.(.+)", r"head.branches.0.box_out.\1"),
    (r"head\.regression_head\.bbox_ctrness\.(.+)", r"head.branches.0.quality_out.\1"),
)


def torchvision_to_torso(state: Mapping[str, Tensor], *, norm_eps: float = 1e-5) -> dict[str, Tensor]:
    """The state_dict() of torchvision's model as that of `torchvision_model(...).build()`.

    norm_eps: of its norms. Raises ValueError for tensors of another model.
    """
    return with_own_norms(renamed(state, _RULES, "torchvision's fcos_resnet50_fpn"), norm_eps)


def torchvision_model(*, num_classes: int = 91) -> Part[Detector]:
    """torchvision's network with its choices, which differ from the paper's, written as arguments.

    Points without the half stride, image // map pixels apart; distances are relu(x) * stride without a learnable
    scale; centerness on the box tower, whose convolutions have a bias beside the norm; the score is
    sqrt(class * centerness), above 0.2.
    num_classes counts what torchvision counts: 91 outputs for COCO's ids 0..90, of which 0 is never used.
    """
    return part(
        Detector,
        backbone=part(Timm, name="resnet50", frozen_stride=4, frozen_norm=True),
        neck=part(FPN, channels=256, finest=8, coarsest=128, extra="conv_p5"),
        head=part(
            FCOSHead,
            num_classes=num_classes,
            priors=part(Points, offset=0.0, stride_from="image"),
            coder=part(LTRBCoder, transform="relu"),
            tower_bias=True,
            level_scale=False,
            quality="box",
            fusion="sqrt",
            score_threshold=0.2,
        ),
        suppression=part(NMS, iou_threshold=0.6, max_detections=100),
        input=part(ShortSide, short=800, longest=1333),
    )
