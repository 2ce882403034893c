"""How YOLOv2 is trained (arXiv 1612.08242, section 2; darknet's yolov2.cfg and region layer for what it leaves out)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.photometric import Photometric
from torso.data.transforms.scale_jitter import ScaleJitter
from torso.parts import Part, part
from torso.training.assigners.yolo_v2 import YOLOv2Assigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.cross_entropy import CrossEntropyLoss
from torso.training.losses.yolo_box import YOLOBoxLoss
from torso.training.recipes.recipe import Recipe
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.quality import QualityTerm
from torso.zoo.yolov2 import yolov2 as model


def yolov2(*, num_classes: int = 80) -> Part[Recipe]:
    """SGD, lr 0.001 for 64 images, 273 epochs, sizes of 320 to 608 pixels; sums an image, as darknet.

    Squared errors of objectness (wanted: the box's IoU) and of places within cells; boxes weigh 2 - their share of the
    image. Ours: the pull of all priors to their anchors in the first 12,800 images is left out, gradients are
    clipped at 35 (mmdetection's for YOLOv3: sums an image are larger than means over positives).
    """
    return part(
        Recipe,
        model=model(num_classes=num_classes),
        criterion=part(
            DenseCriterion,
            assigner=part(YOLOv2Assigner, ignore_above=0.6),
            cls=part(ClassificationTerm, loss=part(CrossEntropyLoss), on="positives"),
            box=part(BoxTerm, loss=part(YOLOBoxLoss, center="squared"), weighting="size"),
            normaliser="batch",
            quality=part(QualityTerm, on="used", target="iou", loss="squared", positive_weight=5.0),
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
