"""How torchvision trains its one-stage detectors: the losses of its models, quirks included, as recipes."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.parts import Part, part
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.training.assigners.ssd import SSDAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.cross_entropy import CrossEntropyLoss
from torso.training.losses.focal import FocalLoss
from torso.training.losses.iou import GIoULoss
from torso.training.losses.l1 import L1Loss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.recipes.recipe import Recipe
from torso.training.samplers.hard_negative import HardNegativeSampler
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.zoo.fcos import torchvision_model as fcos_model
from torso.zoo.retinanet import torchvision_model as retinanet_model
from torso.zoo.ssd import torchvision_model as ssd_model


def retinanet(*, num_classes: int = 91) -> Part[Recipe]:
    """Both sums are divided by each image's own positives, then averaged over the images; L1 on the codes."""
    return part(
        Recipe,
        model=retinanet_model(num_classes=num_classes),
        criterion=part(
            DenseCriterion,
            assigner=part(MaxIoUAssigner, positive=0.5, negative=0.4, rescue=True),
            cls=part(ClassificationTerm, loss=part(FocalLoss, alpha=0.25, gamma=2.0)),
            box=part(BoxTerm, loss=part(L1Loss)),
            normaliser="image",
        ),
        augment=(part(HorizontalFlip),),
        lr=0.01,
    )


def fcos(*, num_classes: int = 91) -> Part[Recipe]:
    """Points within 1.5 strides of the centre; GIoU, not weighed by centerness; all divided by the positives.

    torchvision compares areas in float32 as 1e8 - area, so it may take boxes whose areas differ by less than 8 px^2 as
    equal, and leaves the upper end of a level's range open; the assigner here compares exactly and closes it.
    """
    return part(
        Recipe,
        model=fcos_model(num_classes=num_classes),
        criterion=part(
            DenseCriterion,
            assigner=part(FCOSAssigner, radius=1.5, range_scale=8.0),
            cls=part(ClassificationTerm, loss=part(FocalLoss, alpha=0.25, gamma=2.0)),
            box=part(BoxTerm, loss=part(GIoULoss)),
            normaliser="positives",
        ),
        augment=(part(HorizontalFlip),),
        lr=0.01,
    )


def ssd300(*, num_classes: int = 90) -> Part[Recipe]:
    """Images without objects teach nothing, as in the paper; num_classes is without background."""
    return part(
        Recipe,
        model=ssd_model(num_classes=num_classes),
        criterion=part(
            DenseCriterion,
            assigner=part(SSDAssigner, threshold=0.5),
            cls=part(ClassificationTerm, loss=part(CrossEntropyLoss)),
            box=part(BoxTerm, loss=part(SmoothL1Loss, beta=1.0)),
            sampler=part(HardNegativeSampler, ratio=3.0, least=0),
            normaliser="positives",
        ),
        augment=(part(HorizontalFlip),),
        lr=0.002,
        lr_batch=32,
        weight_decay=5e-4,
    )
