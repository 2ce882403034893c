"""How RetinaNet is trained (arXiv 1708.02002, section 4.1; the 1x schedule of the reference implementations)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.parts import Part, part
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.focal import FocalLoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.recipes.recipe import Recipe
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.zoo.retinanet import retinanet as model


def retinanet(*, num_classes: int = 80) -> Part[Recipe]:
    """SGD, lr 0.01 for 16 images, 12 epochs, steps at 8 and 11. Both sums are divided by the batch's positives.

    beta 1/9 of the smooth L1 is that of the authors' code.
    """
    return part(
        Recipe,
        model=model(num_classes=num_classes),
        criterion=part(
            DenseCriterion,
            assigner=part(MaxIoUAssigner, positive=0.5, negative=0.4, rescue=True),
            cls=part(ClassificationTerm, loss=part(FocalLoss, alpha=0.25, gamma=2.0)),
            box=part(BoxTerm, loss=part(SmoothL1Loss, beta=1 / 9)),
            normaliser="positives",
        ),
        augment=(part(HorizontalFlip),),
        lr=0.01,
        clip_norm=10.0,
    )
