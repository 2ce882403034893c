"""How SSD is trained (arXiv 1512.02325, sections 2.2 and 3.4)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.iou_crop import IoUCrop
from torso.data.transforms.photometric import Photometric
from torso.data.transforms.zoom_out import ZoomOut
from torso.models.detector import Detector
from torso.parts import Part, part
from torso.training.assigners.ssd import SSDAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.cross_entropy import CrossEntropyLoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.recipes.recipe import Recipe
from torso.training.samplers.hard_negative import HardNegativeSampler
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.zoo import ssd


def ssd300(*, num_classes: int = 80) -> Part[Recipe]:
    """SGD, lr 1e-3 for 32 images; 65 epochs are the 240,000 steps of the paper's COCO schedule."""
    return _recipe(ssd.ssd300(num_classes=num_classes))


def ssd512(*, num_classes: int = 80) -> Part[Recipe]:
    """SSD512 as SSD300: SGD, lr 1e-3 for 32 images, the paper's COCO schedule."""
    return _recipe(ssd.ssd512(num_classes=num_classes))


def _recipe(model: Part[Detector]) -> Part[Recipe]:
    """Ours: the warm-up, the gradient clipped at 10 as in the other SGD recipes here (the paper does not clip), and
    three backgrounds learnt in images without objects, where the paper learns none.
    """
    return part(
        Recipe,
        model=model,
        criterion=part(
            DenseCriterion,
            assigner=part(SSDAssigner, threshold=0.5),
            cls=part(ClassificationTerm, loss=part(CrossEntropyLoss)),
            box=part(BoxTerm, loss=part(SmoothL1Loss, beta=1.0)),
            sampler=part(HardNegativeSampler, ratio=3.0, least=3),
            normaliser="positives",
        ),
        augment=(part(Photometric), part(ZoomOut), part(IoUCrop), part(HorizontalFlip)),
        epochs=65,
        batch_size=32,
        lr=1e-3,
        lr_batch=32,
        weight_decay=5e-4,
        warmup_steps=500,
        schedule="step",
        milestones=(160 / 240, 200 / 240),
        clip_norm=10.0,
    )
