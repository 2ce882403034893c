"""How FCOS is trained (arXiv 1904.01355, section 4)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.parts import Part, part
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.focal import FocalLoss
from torso.training.losses.iou import IoULoss
from torso.training.recipes.recipe import Recipe
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.zoo.fcos import fcos as model


def fcos(*, num_classes: int = 80) -> Part[Recipe]:
    """SGD, lr 0.01 for 16 images. The IoU loss of each positive is weighed by its centerness, as in the authors'
    code; the paper's text divides by the positives alone.
    """
    return part(
        Recipe,
        model=model(num_classes=num_classes),
        criterion=part(
            DenseCriterion,
            assigner=part(FCOSAssigner, radius=0.0),
            cls=part(ClassificationTerm, loss=part(FocalLoss, alpha=0.25, gamma=2.0)),
            box=part(BoxTerm, loss=part(IoULoss, form="log"), weighting="quality"),
            normaliser="positives",
        ),
        augment=(part(HorizontalFlip),),
        lr=0.01,
        clip_norm=10.0,
    )
