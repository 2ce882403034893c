"""EfficientDet D0 to D7x: EfficientNet, BiFPN and the picture grow together (Tan et al. 2020, arXiv 1911.09070)."""

from __future__ import annotations

from torso.backbones.timm import Timm
from torso.heads.efficientdet import EfficientDetHead
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks._fusion import Fusion
from torso.necks.bifpn import BiFPN
from torso.parts import Part, part
from torso.suppression.nms import NMS


def efficientdet_d0(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D0, 512 pixels: 3.9 M parameters, 2.5 G multiply-adds, AP 34.6 on COCO test-dev (arXiv 1911.09070).

    3,880,067 parameters with the 90 outputs of the published weights.
    """
    return _family(num_classes, "b0", size=512, channels=64, layers=3, tower=3)


def efficientdet_d1(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D1, 640 pixels: 6.6 M parameters, 6.1 G multiply-adds, AP 40.5 (arXiv 1911.09070)."""
    return _family(num_classes, "b1", size=640, channels=88, layers=4, tower=3)


def efficientdet_d2(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D2, 768 pixels: 8.1 M parameters, 11 G multiply-adds, AP 43.9 (arXiv 1911.09070)."""
    return _family(num_classes, "b2", size=768, channels=112, layers=5, tower=3)


def efficientdet_d3(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D3, 896 pixels: 12 M parameters, 25 G multiply-adds, AP 47.2 (arXiv 1911.09070)."""
    return _family(num_classes, "b3", size=896, channels=160, layers=6, tower=4)


def efficientdet_d4(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D4, 1024 pixels: 21 M parameters, 55 G multiply-adds, AP 49.7 (arXiv 1911.09070)."""
    return _family(num_classes, "b4", size=1024, channels=224, layers=7, tower=4)


def efficientdet_d5(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D5, 1280 pixels: 34 M parameters, 135 G multiply-adds, AP 51.5 (arXiv 1911.09070)."""
    return _family(num_classes, "b5", size=1280, channels=288, layers=7, tower=4)


def efficientdet_d6(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D6, 1280 pixels: 52 M parameters, 226 G multiply-adds, AP 52.6 (arXiv 1911.09070)."""
    return _family(num_classes, "b6", size=1280, channels=384, layers=8, tower=5, fusion="sum")


def efficientdet_d7(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D7, D6 at 1536 pixels: 52 M parameters, 325 G multiply-adds, AP 53.7 (arXiv 1911.09070)."""
    return _family(num_classes, "b6", size=1536, channels=384, layers=8, tower=5, fusion="sum", base_scale=5.0)


def efficientdet_d7x(*, num_classes: int = 80) -> Part[Detector]:
    """EfficientDet-D7x, P3 to P8, 1536 pixels: 77 M parameters, 410 G multiply-adds, AP 55.1 (arXiv 1911.09070)."""
    return _family(num_classes, "b7", size=1536, channels=384, layers=8, tower=5, fusion="sum", coarsest=256)


def _family(
    num_classes: int,
    backbone: str,
    *,
    size: int,
    channels: int,
    layers: int,
    tower: int,
    fusion: Fusion = "fast",
    coarsest: int = 128,
    base_scale: float = 4.0,
) -> Part[Detector]:
    """One member; paddings and biases are those of the published TensorFlow weights."""
    head = part(
        EfficientDetHead, num_classes=num_classes, channels=channels, tower=tower, tower_bias=True, coarsest=coarsest
    )
    return part(
        Detector,
        backbone=part(Timm, name=f"tf_efficientnet_{backbone}", drop_path=0.2),
        neck=part(BiFPN, channels=channels, layers=layers, coarsest=coarsest, fusion=fusion, redundant_bias=True),
        head=head.override("priors.base_scale", base_scale),
        suppression=part(NMS, iou_threshold=0.5),
        input=part(Letterbox, size_hw=(size, size)),
    )
