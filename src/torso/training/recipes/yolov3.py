"""How YOLOv3 is trained (arXiv 1804.02767, section 2; darknet's yolov3.cfg and yolo layer for what it leaves out)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.photometric import Photometric
from torso.data.transforms.scale_jitter import ScaleJitter
from torso.parts import Part, part
from torso.training.assigners.yolo_v3 import YOLOv3Assigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.yolo_box import YOLOBoxLoss
from torso.training.recipes.recipe import Recipe
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.quality import QualityTerm
from torso.zoo.yolov3 import yolov3 as model


def yolov3(*, num_classes: int = 80) -> Part[Recipe]:
    """SGD, lr 0.001 for 64 images, 273 epochs, sizes of 320 to 608 pixels; sums an image, as darknet.

    Boxes weigh 2 - their share of the image. Ours: gradients are clipped at 35, as mmdetection's.
    """
    return part(
        Recipe,
        model=model(num_classes=num_classes),
        criterion=part(
            DenseCriterion,
            assigner=part(YOLOv3Assigner, ignore_above=0.7),
            cls=part(ClassificationTerm, loss=part(BCELoss), on="positives"),
            box=part(BoxTerm, loss=part(YOLOBoxLoss, center="entropy"), weighting="size"),
            normaliser="batch",
            quality=part(QualityTerm, on="used", target="one"),
        ),
        augment=(
            part(ScaleJitter, size_hw=(416, 416), low=0.6, high=1.4),
            part(HorizontalFlip),
            part(Photometric),
        ),
        scales=(320 / 416, 1.0, 512 / 416, 608 / 416),
        epochs=273,
        batch_size=16,
        lr=1e-3,
        lr_batch=64,
        weight_decay=5e-4,
        warmup_steps=1000,
        schedule="step",
        milestones=(0.8, 0.9),
        clip_norm=35.0,
    )
