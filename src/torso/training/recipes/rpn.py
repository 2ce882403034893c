"""How a region proposal network is trained by itself (arXiv 1506.01497, section 3.1.3)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.parts import Part, part
from torso.training.assigners.max_iou import MaxIoU
from torso.training.criteria.dense import Dense
from torso.training.losses.bce import BCE
from torso.training.losses.smooth_l1 import SmoothL1
from torso.training.recipes.recipe import Recipe
from torso.training.samplers.random import Random
from torso.zoo.rpn import rpn as model


def rpn(*, num_classes: int = 1) -> Part[Recipe]:
    """256 anchors a picture, half of them positive at most; both sums are divided by the anchors drawn."""
    return part(
        Recipe,
        model=model(num_classes=num_classes),
        criterion=part(
            Dense,
            assigner=part(MaxIoU, positive=0.7, negative=0.3, rescue=True, rescue_above=0.3),
            cls_loss=part(BCE),
            box_loss=part(SmoothL1, beta=1 / 9),
            sampler=part(Random, number=256, positive_share=0.5),
            normaliser="sampled",
        ),
        augment=(part(HorizontalFlip),),
        lr=0.02,
        clip_norm=10.0,
    )
