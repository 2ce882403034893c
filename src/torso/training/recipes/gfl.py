"""How GFL is trained (arXiv 2006.04388, section 4)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.parts import Part, part
from torso.training.assigners.atss import ATSSAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.dfl import DFLLoss
from torso.training.losses.iou import GIoULoss
from torso.training.losses.qfl import QFLLoss
from torso.training.recipes.recipe import Recipe
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.distribution import DistributionTerm
from torso.zoo.gfl import gfl as model


def gfl(*, num_classes: int = 80) -> Part[Recipe]:
    """SGD, lr 0.01 for 16 images. GIoU loss of weight 2 and DFL of 0.25, both weighed by the class score.

    Ours: gradients are clipped at 10, as in the other SGD recipes here; neither paper nor code does.
    """
    return part(
        Recipe,
        model=model(num_classes=num_classes),
        criterion=part(
            DenseCriterion,
            assigner=part(ATSSAssigner, candidates=9),
            cls=part(ClassificationTerm, loss=part(QFLLoss, beta=2.0)),
            box=part(BoxTerm, loss=part(GIoULoss), weighting="score", weight=2.0),
            distribution=part(DistributionTerm, loss=part(DFLLoss), weight=0.25),
            normaliser="positives",
        ),
        augment=(part(HorizontalFlip),),
        lr=0.01,
        clip_norm=10.0,
    )
