"""How YOLOv5 is trained (https://doi.org/10.5281/zenodo.3908559): the settings published with its release 7.0."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.mosaic import Mosaic
from torso.data.transforms.photometric import Photometric
from torso.models.detector import Detector
from torso.parts import Part, part
from torso.training.assigners.yolo_v5 import YOLOv5Assigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.iou import CIoULoss
from torso.training.recipes.recipe import Recipe
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.quality import QualityTerm
from torso.zoo import yolov5 as zoo

_NOMINAL_BATCH = 64  # the published loss is a mean times the images of a step, at the lr for 64 of them


def yolov5n(*, num_classes: int = 80) -> Part[Recipe]:
    """How YOLOv5n is trained: SGD, 300 epochs, mosaic, averaged weights (https://doi.org/10.5281/zenodo.3908559)."""
    return _recipe(zoo.yolov5n(num_classes=num_classes))


def yolov5s(*, num_classes: int = 80) -> Part[Recipe]:
    """How YOLOv5s is trained: SGD, 300 epochs, mosaic, averaged weights (https://doi.org/10.5281/zenodo.3908559)."""
    return _recipe(zoo.yolov5s(num_classes=num_classes))


def yolov5m(*, num_classes: int = 80) -> Part[Recipe]:
    """How YOLOv5m is trained: SGD, 300 epochs, mosaic, averaged weights (https://doi.org/10.5281/zenodo.3908559)."""
    return _recipe(zoo.yolov5m(num_classes=num_classes))


def yolov5l(*, num_classes: int = 80) -> Part[Recipe]:
    """How YOLOv5l is trained: SGD, 300 epochs, mosaic, averaged weights (https://doi.org/10.5281/zenodo.3908559)."""
    return _recipe(zoo.yolov5l(num_classes=num_classes))


def yolov5x(*, num_classes: int = 80) -> Part[Recipe]:
    """How YOLOv5x is trained: SGD, 300 epochs, mosaic, averaged weights (https://doi.org/10.5281/zenodo.3908559)."""
    return _recipe(zoo.yolov5x(num_classes=num_classes))


def _recipe(model: Part[Detector]) -> Part[Recipe]:
    """Means a level: CIoU over pairs 0.05, objectness over all priors 1 (levels 4, 1, 0.4), classes over pairs and
    classes 0.5 * K / 80, which is 0.5 / 80 of their sum. Ours: a cosine where the learning rate fell in a line, one
    warm-up for all parameters, no Nesterov momentum.
    """
    return part(
        Recipe,
        model=model,
        criterion=part(
            DenseCriterion,
            assigner=part(YOLOv5Assigner, max_ratio=4.0),
            cls=part(ClassificationTerm, loss=part(BCELoss), on="positives", weight=_NOMINAL_BATCH * 0.5 / 80),
            box=part(BoxTerm, loss=part(CIoULoss), weight=_NOMINAL_BATCH * 0.05),
            quality=part(
                QualityTerm,
                on="used",
                target="ciou",
                normaliser="sampled",
                level_weights=(4.0, 1.0, 0.4),
                weight=_NOMINAL_BATCH * 1.0,
            ),
            per_level=True,
        ),
        augment=(
            part(Mosaic, size_hw=model.get("input").get("size_hw")),
            part(HorizontalFlip),
            part(Photometric),
        ),
        epochs=300,
        batch_size=16,
        lr=0.01,
        lr_batch=_NOMINAL_BATCH,
        momentum=0.937,
        weight_decay=5e-4,
        warmup_steps=5500,  # three epochs of COCO at 64 images a step
        schedule="cosine",
        clip_norm=10.0,
        ema=0.9999,
    )
