"""YOLOv3-SPP: YOLOv3 with pooled windows on its coarsest level (Redmon, Farhadi 2018, arXiv 1804.02767)."""

from __future__ import annotations

from torso.blocks.spp import SPP
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.at_levels import AtLevels
from torso.parts import Part, part
from torso.zoo.yolov3 import yolov3


def yolov3_spp(*, num_classes: int = 80) -> Part[Detector]:
    """As yolov3-spp.cfg, at 608 pixels: the SPP stands in the place of the neck's first five convolutions.

    Published: AP 36.2 on COCO test-dev, 141.45 G operations. 62,998,749 parameters with 80 classes.
    """
    model = yolov3(num_classes=num_classes)
    return model.with_args(
        neck=(part(AtLevels, block=part(SPP, channels=512, convs=3)), model.get("neck")),
        input=part(Letterbox, size_hw=(608, 608)),
    )
