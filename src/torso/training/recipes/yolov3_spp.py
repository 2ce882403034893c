"""How YOLOv3-SPP is trained (arXiv 1804.02767; darknet's yolov3-spp.cfg): as YOLOv3, on images of up to 608 pixels."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.photometric import Photometric
from torso.data.transforms.scale_jitter import ScaleJitter
from torso.parts import Part, part
from torso.training.recipes.recipe import Recipe
from torso.training.recipes.yolov3 import yolov3
from torso.zoo.yolov3_spp import yolov3_spp as model


def yolov3_spp(*, num_classes: int = 80) -> Part[Recipe]:
    """YOLOv3's recipe on a canvas of 608 x 608 pixels."""
    return yolov3(num_classes=num_classes).with_args(
        model=model(num_classes=num_classes),
        augment=(
            part(ScaleJitter, size_hw=(608, 608), low=0.6, high=1.4),
            part(HorizontalFlip),
            part(Photometric),
        ),
        scales=(320 / 608, 416 / 608, 512 / 608, 1.0),
    )
