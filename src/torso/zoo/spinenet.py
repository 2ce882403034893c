"""SpineNet with RetinaNet's head, from scratch (Du et al. 2020, arXiv 1912.05027; the authors' longer recipe)."""

from __future__ import annotations

from torso.backbones import spinenet_sizes as sizes
from torso.backbones.spinenet import SpineNet
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.parts import Part, part
from torso.suppression.nms import NMS
from torso.zoo.retinanet import RetinaNetHead


def spinenet_49s(*, num_classes: int = 80) -> Part[Detector]:
    """SpineNet-49S, 640 pixels: 11.3 M parameters, 30.8 G multiply-adds with 91 outputs, AP 41.5 (arXiv 1912.05027).

    Published: 11.9 M and 33.8 G, which the published widths do not give.
    """
    return _family(sizes.spinenet_49s(), num_classes, size=640, base_scale=3.0)


def spinenet_49(*, num_classes: int = 80) -> Part[Detector]:
    """SpineNet-49, 640 pixels: 28.5 M parameters, 85 G multiply-adds with 91 outputs, AP 44.3 (arXiv 1912.05027)."""
    return _family(sizes.spinenet_49(), num_classes, size=640, base_scale=3.0)


def spinenet_96(*, num_classes: int = 80) -> Part[Detector]:
    """SpineNet-96, 1024 pixels: 43.0 M parameters, 265 G multiply-adds with 91 outputs, AP 48.5 (arXiv 1912.05027)."""
    return _family(sizes.spinenet_96(), num_classes, size=1024, base_scale=3.0)


def spinenet_143(*, num_classes: int = 80) -> Part[Detector]:
    """SpineNet-143, 1280 pixels: 67.0 M parameters, 523 G multiply-adds with 91 outputs, AP 50.6 (arXiv 1912.05027)."""
    return _family(sizes.spinenet_143(), num_classes, size=1280, base_scale=4.0)


def spinenet_190(*, num_classes: int = 80) -> Part[Detector]:
    """SpineNet-190, 1280 pixels: 163.6 M parameters, 1882 G multiply-adds (91 outputs), AP 52.0 (arXiv 1912.05027)."""
    return _family(sizes.spinenet_190(), num_classes, size=1280, base_scale=4.0, tower=7)


def _family(
    backbone: Part[SpineNet], num_classes: int, *, size: int, base_scale: float, tower: int = 4
) -> Part[Detector]:
    """The head is as wide as the backbone's maps; its convolutions are shared over P3 to P7, its norms are not."""
    head = part(
        RetinaNetHead, num_classes=num_classes, channels=backbone.get("channels"), tower=tower, norm="bn_tf",
        level_norms=True, activation="silu",
    )  # fmt: skip
    return part(
        Detector,
        backbone=backbone.with_args(activation="silu", drop_path=0.2),
        head=head.override("priors.base_scale", base_scale).override("priors.offset", 0.5),
        suppression=part(NMS, iou_threshold=0.5),
        input=part(Letterbox, size_hw=(size, size)),
    )
