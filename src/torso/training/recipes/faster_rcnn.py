"""How Faster R-CNN is trained (arXiv 1506.01497, section 3.1.3; 1612.03144, section 5; the 1x schedule)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.parts import Part, part
from torso.training.criteria.two_stage import TwoStageCriterion
from torso.training.recipes.recipe import Recipe
from torso.zoo.faster_rcnn import faster_rcnn as model


def faster_rcnn(*, num_classes: int = 80) -> Part[Recipe]:
    """SGD, lr 0.02 for 16 images, 12 epochs, steps at 8 and 11; 256 anchors and 512 proposals an image.

    Both stages are trained together with weights of one. beta 1/9 of the smooth L1 is that of the FPN authors' RPN and
    of torchvision; mmdetection and detectron2 have L1. The papers do not clip; at 35 (mmdetection's) this rate diverged
    on EfficientNet-Lite0, whose gradients begin with a norm of 80.
    """
    return part(
        Recipe,
        model=model(num_classes=num_classes),
        criterion=part(TwoStageCriterion),
        augment=(part(HorizontalFlip),),
        lr=0.02,
        clip_norm=10.0,
    )
