"""How a region proposal network is trained by itself (arXiv 1506.01497, section 3.1.3)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.parts import Part, part
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.recipes.recipe import Recipe
from torso.training.samplers.random import RandomSampler
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.zoo.rpn import rpn as model


def rpn(*, num_classes: int = 1) -> Part[Recipe]:
    """256 anchors an image, half of them positive at most; both sums are divided by the anchors drawn."""
    return part(
        Recipe,
        model=model(num_classes=num_classes),
        criterion=part(
            DenseCriterion,
            assigner=part(MaxIoUAssigner, positive=0.7, negative=0.3, rescue=True, rescue_above=0.3),
            cls=part(ClassificationTerm, loss=part(BCELoss)),
            box=part(BoxTerm, loss=part(SmoothL1Loss, beta=1 / 9)),
            sampler=part(RandomSampler, number=256, positive_share=0.5),
            normaliser="sampled",
        ),
        augment=(part(HorizontalFlip),),
        lr=0.02,
        clip_norm=10.0,
    )
