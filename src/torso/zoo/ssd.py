"""SSD300 and SSD512: a VGG, ever smaller maps, default boxes of their sizes (Liu et al. 2016, arXiv 1512.02325)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from torso.backbones.ssd_vgg import SSDVGG
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors.ssd import SSDAnchors
from torso.heads.dense import DenseHead
from torso.inputs.fixed import Fixed
from torso.models.detector import Detector
from torso.necks.ssd_extra import SSDExtra
from torso.parts import Part, part
from torso.suppression.nms import NMS
from torso.zoo._rename import renamed

_FEW, _MANY = (2.0,), (2.0, 3.0)  # 4 and 6 default boxes a location


class SSDHead(
    DenseHead,
    shared=False,
    tower=0,
    out_kernel=3,
    priors=part(SSDAnchors),
    coder=part(DeltaCoder, weights=(10.0, 10.0, 5.0, 5.0)),
    scores="softmax",
    score_threshold=0.01,
):
    """SSD's head: one 3x3 convolution a level and output, default boxes, a softmax (Liu et al. 2016, arXiv 1512.02325).

    The dense head in the paper's setting; the weights of the codes are its variances 0.1 and 0.2, inverted.
    """


def ssd300(*, num_classes: int = 80) -> Part[Detector]:
    """SSD300: AP 25.1 on COCO test-dev, 8,732 default boxes, 34,305,206 parameters (arXiv 1512.02325).

    mmdetection's 120 epochs 25.5 on val2017. Parameters are those of 80 classes; torchvision's 35,641,826 of 90.
    """
    neck = part(
        SSDExtra,
        coarsest=16,
        widths=(512, 256, 256, 256),
        strides=(2, 2, 1, 1),
        paddings=(1, 1, 0, 0),
        steps=(32, 64, 100, 300),
    )
    boxes = part(
        SSDAnchors,
        sizes=(21.0, 45.0, 99.0, 153.0, 207.0, 261.0, 315.0),
        ratios=(_FEW, _MANY, _MANY, _MANY, _FEW, _FEW),
    )
    return _family(num_classes, 300, neck, boxes)


def ssd512(*, num_classes: int = 80) -> Part[Detector]:
    """SSD512: AP 28.8 on COCO test-dev, 24,564 default boxes, 36,038,196 parameters (arXiv 1512.02325).

    mmdetection's 120 epochs 29.5 on val2017. Sides are 4, 10, 26 ... 90, 106 % of 512 px.
    """
    neck = part(
        SSDExtra,
        coarsest=16,
        widths=(512, 256, 256, 256, 256),
        strides=(2, 2, 2, 2, 1),
        paddings=(1, 1, 1, 1, 1),
        last_kernel=4,
        steps=(32, 64, 128, 256, 512),
    )
    boxes = part(
        SSDAnchors,
        sizes=(20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72),
        ratios=(_FEW, _MANY, _MANY, _MANY, _MANY, _FEW, _FEW),
    )
    return _family(num_classes, 512, neck, boxes)


def _family(num_classes: int, side: int, neck: Part[SSDExtra], boxes: Part[SSDAnchors]) -> Part[Detector]:
    """One member; its last level is one location that sees the whole image."""
    return part(
        Detector,
        backbone=part(SSDVGG),
        neck=neck,
        head=part(SSDHead, num_classes=num_classes, coarsest=side, priors=boxes),
        suppression=part(NMS, iou_threshold=0.45, max_detections=200, pre_nms_top_per_class=400),
        input=part(Fixed, size_hw=(side, side)),
    )


# torchvision's SSD300 (ssd300_vgg16): its weights in torso's names, its model as a composition.

# torchvision numbers convolutions and activations through; its fourth pooling begins extra.0
_VGG = ((0, (0, 2)), (1, (5, 7)), (2, (10, 12, 14)), (3, (17, 19, 21)))
_RULES = (
    *(
        (rf"backbone\.features\.{theirs}\.(.+)", rf"backbone.blocks.{block}.{2 * i}.\1")
        for block, places in _VGG
        for i, theirs in enumerate(places)
    ),
    *((rf"backbone\.extra\.0\.{2 * i + 1}\.(weight|bias)", rf"backbone.blocks.4.{2 * i}.\1") for i in range(3)),
    (r"backbone\.extra\.0\.7\.1\.(.+)", r"backbone.fc6.\1"),
    (r"backbone\.extra\.0\.7\.3\.(.+)", r"backbone.fc7.\1"),
    (r"backbone\.scale_weight", r"backbone.l2_norm.weight"),
    *((rf"backbone\.extra\.{i + 1}\.(.+)", rf"neck.0.levels.{i}.\1") for i in range(4)),
    (r"head\.classification_head\.module_list\.(\d+)\.(.+)", r"head.branches.\1.cls_out.\2"),
    (r"head\.regression_head\.module_list\.(\d+)\.(.+)", r"head.branches.\1.box_out.\2"),
)


def torchvision_to_torso(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict() of torchvision's model as that of `torchvision_model(...).build()`.

    Label k of torchvision is our k - 1: its background, the first column of every default box, becomes our last.
    Raises ValueError for tensors of another model.
    """
    out = renamed(state, _RULES, "torchvision's ssd300_vgg16")
    for name, value in out.items():
        if ".cls_out." in name:
            boxes = out[name.replace("cls_out", "box_out")].shape[0] // 4
            out[name] = value.reshape(boxes, -1, *value.shape[1:]).roll(-1, dims=1).reshape(value.shape)
    return out


def torchvision_model(*, num_classes: int = 90) -> Part[Detector]:
    """torchvision's network with its choices written as arguments.

    num_classes is without background, one less than its own. Sides of default boxes end at the image's; pixels lie in
    0..255 less their mean; no pair above the score threshold is left out before the 400 best of each class are taken.
    """
    model = ssd300(num_classes=num_classes)
    for argument, value in (
        ("backbone.pixels", "caffe"),
        ("head.priors.clip", "true"),
        ("head.pre_nms_top", "100000"),
    ):
        model = model.override(argument, value)
    return model
