"""How YOLOX is trained (arXiv 2107.08430, section 2.1; the authors' code for what it leaves out)."""

from __future__ import annotations

from torso.data.sample import Transform
from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.mixup import MixUp
from torso.data.transforms.mosaic import Mosaic
from torso.data.transforms.photometric import Photometric
from torso.models.detector import Detector
from torso.parts import Part, part
from torso.training.assigners.simota import SimOTAAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.iou import IoULoss
from torso.training.recipes.recipe import Recipe
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.quality import QualityTerm
from torso.zoo import yolox as zoo

_SIDES = (448, 544, 640, 736, 832)  # five of the authors' thirteen: each is a graph of its own


def yolox_tiny(*, num_classes: int = 80) -> Part[Recipe]:
    """How YOLOX-tiny is trained: SGD, 300 epochs, mosaic without MixUp, averaged weights (arXiv 2107.08430)."""
    return _recipe(zoo.yolox_tiny(num_classes=num_classes), (320, 416, 512, 640), mixup=False)


def yolox_s(*, num_classes: int = 80) -> Part[Recipe]:
    """How YOLOX-s is trained: SGD, 300 epochs, mosaic and MixUp, averaged weights (arXiv 2107.08430)."""
    return _recipe(zoo.yolox_s(num_classes=num_classes), _SIDES, mixup=True)


def yolox_m(*, num_classes: int = 80) -> Part[Recipe]:
    """How YOLOX-m is trained: SGD, 300 epochs, mosaic and MixUp, averaged weights (arXiv 2107.08430)."""
    return _recipe(zoo.yolox_m(num_classes=num_classes), _SIDES, mixup=True)


def yolox_l(*, num_classes: int = 80) -> Part[Recipe]:
    """How YOLOX-l is trained: SGD, 300 epochs, mosaic and MixUp, averaged weights (arXiv 2107.08430)."""
    return _recipe(zoo.yolox_l(num_classes=num_classes), _SIDES, mixup=True)


def _recipe(model: Part[Detector], sides: tuple[int, ...], *, mixup: bool) -> Part[Recipe]:
    """lr 0.01 for 64 images, sums divided by positives, boxes 5 * (1 - IoU^2); sides: to which images are resized.

    The last 15 epochs are without mosaic and MixUp. Left out: their L1 term, and Nesterov momentum. Ours: the gradient
    clipped at 10 as in the other SGD recipes here; the authors do not clip.
    """
    size_hw = model.get("input").get("size_hw")
    augment: tuple[Part[Transform], ...] = (part(Mosaic, size_hw=size_hw), part(HorizontalFlip), part(Photometric))
    return part(
        Recipe,
        model=model,
        criterion=part(
            DenseCriterion,
            assigner=part(SimOTAAssigner),
            cls=part(ClassificationTerm, loss=part(BCELoss), on="positives"),
            box=part(BoxTerm, loss=part(IoULoss, form="square"), weight=5.0),
            normaliser="positives",
            quality=part(QualityTerm, on="used", target="one"),
        ),
        augment=(augment[0], part(MixUp), *augment[1:]) if mixup else augment,
        close_mosaic=15 / 300,
        scales=tuple(side / size_hw[0] for side in sides),
        epochs=300,
        batch_size=16,
        lr=0.01,
        lr_batch=64,
        weight_decay=5e-4,
        warmup_steps=9200,  # five epochs of COCO at 64 images a step
        schedule="cosine",
        clip_norm=10.0,
        ema=0.9998,
    )
