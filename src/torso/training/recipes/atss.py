"""How ATSS is trained (arXiv 1912.02424, section 3.4)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.parts import Part, part
from torso.training.assigners.atss import ATSSAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.focal import FocalLoss
from torso.training.losses.iou import GIoULoss
from torso.training.recipes.recipe import Recipe
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.zoo.atss import atss as model


def atss(*, num_classes: int = 80) -> Part[Recipe]:
    """SGD, lr 0.01 for 16 images. GIoU loss of weight 2, weighed by centerness."""
    return part(
        Recipe,
        model=model(num_classes=num_classes),
        criterion=part(
            DenseCriterion,
            assigner=part(ATSSAssigner, candidates=9),
            cls=part(ClassificationTerm, loss=part(FocalLoss, alpha=0.25, gamma=2.0)),
            box=part(BoxTerm, loss=part(GIoULoss), weighting="quality", weight=2.0),
            normaliser="positives",
        ),
        augment=(part(HorizontalFlip),),
        lr=0.01,
        clip_norm=10.0,
    )
