"""How SpineNet's detectors are trained from scratch (arXiv 1912.05027, section 4; the authors' configurations)."""

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
from torso.zoo import spinenet as zoo


def spinenet_49s(*, num_classes: int = 80) -> Part[Recipe]:
    """How SpineNet-49S is trained: SGD, 500 epochs from scratch (arXiv 1912.05027, section 4)."""
    return _recipe(zoo.spinenet_49s(num_classes=num_classes))


def spinenet_49(*, num_classes: int = 80) -> Part[Recipe]:
    """How SpineNet-49 is trained: SGD, 500 epochs from scratch (arXiv 1912.05027, section 4)."""
    return _recipe(zoo.spinenet_49(num_classes=num_classes))


def spinenet_96(*, num_classes: int = 80) -> Part[Recipe]:
    """How SpineNet-96 is trained: SGD, 500 epochs from scratch (arXiv 1912.05027, section 4)."""
    return _recipe(zoo.spinenet_96(num_classes=num_classes))


def spinenet_143(*, num_classes: int = 80) -> Part[Recipe]:
    """How SpineNet-143 is trained: SGD, 500 epochs from scratch (arXiv 1912.05027, section 4)."""
    return _recipe(zoo.spinenet_143(num_classes=num_classes))


def spinenet_190(*, num_classes: int = 80) -> Part[Recipe]:
    """How SpineNet-190 is trained: SGD, 500 epochs from scratch (arXiv 1912.05027); AP 52.0 was had after 400."""
    return _recipe(zoo.spinenet_190(num_classes=num_classes))


def _recipe(model: Part[Detector]) -> Part[Recipe]:
    """SGD, lr 0.28 for 256 images a step, a tenth at 94 % and again at 98 % of the steps.

    The authors' box loss is 50 times Huber's at 0.1, averaged over four codes: 50 * 0.1 / 4 = 1.25 times the smooth L1
    of beta 0.1. Decay is 4e-5; here norms and biases have none. Their norms see the whole batch of 256.
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
        augment=(part(HorizontalFlip), part(ScaleJitter, size_hw=model.get("input").get("size_hw"), low=0.5, high=2.0)),
        epochs=500,
        lr=0.28,
        lr_batch=256,
        weight_decay=4e-5,
        warmup_steps=2000,
        schedule="step",
        milestones=(0.94, 0.98),
        clip_norm=10.0,
    )
