"""torchvision's SSD300 (ssd300_vgg16): its weights in torso's names, its model as a composition."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from torso.keymaps._rename import renamed
from torso.models.detector import Detector
from torso.parts import Part
from torso.zoo.ssd import ssd300

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

    num_classes is without background, one less than its own. Sides of default boxes end at the picture's; pixels lie in
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
