"""How EfficientDet is trained (arXiv 1911.09070, section 5.1; the authors' code for what the text leaves out)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.scale_jitter import ScaleJitter
from torso.models.detector import Detector
from torso.parts import Part, part
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.focal import FocalLoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.recipes.recipe import Recipe
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.zoo import efficientdet as zoo


def efficientdet_d0(*, num_classes: int = 80) -> Part[Recipe]:
    """How EfficientDet-D0 is trained: SGD, 300 epochs, averaged weights (arXiv 1911.09070, section 5.1)."""
    return _recipe(zoo.efficientdet_d0(num_classes=num_classes))


def efficientdet_d1(*, num_classes: int = 80) -> Part[Recipe]:
    """How EfficientDet-D1 is trained: SGD, 300 epochs, averaged weights (arXiv 1911.09070, section 5.1)."""
    return _recipe(zoo.efficientdet_d1(num_classes=num_classes))


def efficientdet_d2(*, num_classes: int = 80) -> Part[Recipe]:
    """How EfficientDet-D2 is trained: SGD, 300 epochs, averaged weights (arXiv 1911.09070, section 5.1)."""
    return _recipe(zoo.efficientdet_d2(num_classes=num_classes))


def efficientdet_d3(*, num_classes: int = 80) -> Part[Recipe]:
    """How EfficientDet-D3 is trained: SGD, 300 epochs, averaged weights (arXiv 1911.09070, section 5.1)."""
    return _recipe(zoo.efficientdet_d3(num_classes=num_classes))


def efficientdet_d4(*, num_classes: int = 80) -> Part[Recipe]:
    """How EfficientDet-D4 is trained: SGD, 300 epochs, averaged weights (arXiv 1911.09070, section 5.1)."""
    return _recipe(zoo.efficientdet_d4(num_classes=num_classes))


def efficientdet_d5(*, num_classes: int = 80) -> Part[Recipe]:
    """How EfficientDet-D5 is trained: SGD, 300 epochs, averaged weights (arXiv 1911.09070, section 5.1)."""
    return _recipe(zoo.efficientdet_d5(num_classes=num_classes))


def efficientdet_d6(*, num_classes: int = 80) -> Part[Recipe]:
    """How EfficientDet-D6 is trained: SGD, 300 epochs, averaged weights (arXiv 1911.09070, section 5.1)."""
    return _recipe(zoo.efficientdet_d6(num_classes=num_classes))


def efficientdet_d7(*, num_classes: int = 80) -> Part[Recipe]:
    """How EfficientDet-D7 is trained: SGD, 300 epochs, averaged weights (arXiv 1911.09070, section 5.1)."""
    return _recipe(zoo.efficientdet_d7(num_classes=num_classes))


def efficientdet_d7x(*, num_classes: int = 80) -> Part[Recipe]:
    """How EfficientDet-D7x is trained: SGD, 300 epochs, averaged weights (arXiv 1911.09070, section 5.1)."""
    return _recipe(zoo.efficientdet_d7x(num_classes=num_classes))


def _recipe(model: Part[Detector]) -> Part[Recipe]:
    """SGD, lr 0.16 for 128 images a step. The class sum and the box sum are divided by the batch's positives.

    The authors' box loss is 50 times Huber's at 0.1, averaged over four codes: 50 * 0.1 / 4 = 1.25 times the smooth L1
    of beta 0.1. They count one positive more than there are. Decay is 4e-5; here norms and biases have none.
    """
    return part(
        Recipe,
        model=model,
        criterion=part(
            DenseCriterion,
            assigner=part(MaxIoUAssigner, positive=0.5, negative=0.5, rescue=True),
            cls=part(ClassificationTerm, loss=part(FocalLoss, alpha=0.25, gamma=1.5)),
            box=part(BoxTerm, loss=part(SmoothL1Loss, beta=0.1), weight=1.25),
            normaliser="positives",
        ),
        augment=(part(HorizontalFlip), part(ScaleJitter, size_hw=model.get("input").get("size_hw"), low=0.1, high=2.0)),
        epochs=300,
        lr=0.16,
        lr_batch=128,
        weight_decay=4e-5,
        warmup_steps=924,  # an epoch of COCO at 128 images a step
        schedule="cosine",
        clip_norm=10.0,
        ema=0.9998,
    )
