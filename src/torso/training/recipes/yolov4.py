"""How YOLOv4 is trained (arXiv 2004.10934, section 4.1; darknet's yolov4.cfg for what it leaves out)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.mosaic import Mosaic
from torso.data.transforms.photometric import Photometric
from torso.parts import Part, part
from torso.training.assigners.yolo_v3 import YOLOv3Assigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.iou import CIoULoss
from torso.training.recipes.recipe import Recipe
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.quality import QualityTerm
from torso.zoo.yolov4 import yolov4 as model


def yolov4(*, num_classes: int = 80) -> Part[Recipe]:
    """SGD of momentum 0.949, lr 0.0013 for 64 images, 273 epochs; mosaic, CIoU, several anchors a target.

    Sums an image, as darknet. Its 0.07 for CIoU multiplies derivatives by the box in shares of the image, which it
    passes on without those of grid, sigmoid and anchor: 72 to 253 for a centre, 1.3 to 51 for a side, 34 in the
    geometric mean of anchors and codes at 608 pixels. Of a true gradient the same is 34 * 0.07 = 2.4. Ours: gradients
    are clipped at 100, where darknet cuts each box code's at 5. Their norm begins at 700: of eight images, 100 steps
    of this rate learnt AP50 0.29 clipped at 35 (mmdetection's for YOLOv3), 0.77 at 100.
    """
    return part(
        Recipe,
        model=model(num_classes=num_classes),
        criterion=part(
            DenseCriterion,
            assigner=part(YOLOv3Assigner, ignore_above=0.7, extra_iou=0.213),
            cls=part(ClassificationTerm, loss=part(BCELoss), on="positives"),
            box=part(BoxTerm, loss=part(CIoULoss), weight=2.4),
            normaliser="batch",
            quality=part(QualityTerm, on="used", target="one"),
        ),
        augment=(
            part(Mosaic, size_hw=(608, 608)),
            part(HorizontalFlip),
            part(Photometric),
        ),
        scales=(320 / 608, 416 / 608, 512 / 608, 1.0),
        epochs=273,
        batch_size=16,
        lr=1.3e-3,
        lr_batch=64,
        momentum=0.949,
        weight_decay=5e-4,
        warmup_steps=1000,
        schedule="step",
        milestones=(0.8, 0.9),
        clip_norm=100.0,
    )
