"""How the task-aligned models of the v8 style are trained (arXiv 2108.07755; the later heads' published settings)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.mosaic import Mosaic
from torso.data.transforms.photometric import Photometric
from torso.models.detector import Detector
from torso.parts import Part, part
from torso.training.assigners.task_aligned import TaskAlignedAssigner
from torso.training.criteria.dense import DenseCriterion
from torso.training.losses.bce import BCELoss
from torso.training.losses.dfl import DFLLoss
from torso.training.losses.iou import CIoULoss
from torso.training.recipes.recipe import Recipe
from torso.training.terms.box import BoxTerm
from torso.training.terms.classification import ClassificationTerm
from torso.training.terms.distribution import DistributionTerm
from torso.zoo import tal as zoo

_NOMINAL_BATCH = 64  # the published loss is multiplied by the images of a step, at the lr for 64 of them


def tal_n(*, num_classes: int = 80) -> Part[Recipe]:
    """How tal_n is trained: SGD, 500 epochs, mosaic, task-aligned assignment, CIoU and DFL (arXiv 2108.07755)."""
    return _recipe(zoo.tal_n(num_classes=num_classes))


def tal_s(*, num_classes: int = 80) -> Part[Recipe]:
    """How tal_s is trained: SGD, 500 epochs, mosaic, task-aligned assignment, CIoU and DFL (arXiv 2108.07755)."""
    return _recipe(zoo.tal_s(num_classes=num_classes))


def tal_m(*, num_classes: int = 80) -> Part[Recipe]:
    """How tal_m is trained: SGD, 500 epochs, mosaic, task-aligned assignment, CIoU and DFL (arXiv 2108.07755)."""
    return _recipe(zoo.tal_m(num_classes=num_classes))


def tal_l(*, num_classes: int = 80) -> Part[Recipe]:
    """How tal_l is trained: SGD, 500 epochs, mosaic, task-aligned assignment, CIoU and DFL (arXiv 2108.07755)."""
    return _recipe(zoo.tal_l(num_classes=num_classes))


def tal_x(*, num_classes: int = 80) -> Part[Recipe]:
    """How tal_x is trained: SGD, 500 epochs, mosaic, task-aligned assignment, CIoU and DFL (arXiv 2108.07755)."""
    return _recipe(zoo.tal_x(num_classes=num_classes))


def _recipe(model: Part[Detector]) -> Part[Recipe]:
    """All terms are divided by the sum of the soft targets: 7.5 CIoU, 0.5 class, 1.5 DFL. The last 10 epochs are
    without mosaic. Ours: a cosine where the learning rate fell in a line, no Nesterov momentum.
    """
    return part(
        Recipe,
        model=model,
        criterion=part(
            DenseCriterion,
            assigner=part(
                TaskAlignedAssigner,
                alpha=0.5,
                beta=6.0,
                top=10,
                compete="inside",
                overlap="ciou",
                margin=1e-9,
                guard=0.0,
            ),
            cls=part(ClassificationTerm, loss=part(BCELoss), weight=_NOMINAL_BATCH * 0.5),
            box=part(BoxTerm, loss=part(CIoULoss), weighting="quality", weight=_NOMINAL_BATCH * 7.5),
            distribution=part(DistributionTerm, loss=part(DFLLoss), weight=_NOMINAL_BATCH * 1.5),
            normaliser="quality",
        ),
        augment=(
            part(Mosaic, size_hw=model.get("input").get("size_hw")),
            part(HorizontalFlip),
            part(Photometric),
        ),
        close_mosaic=10 / 500,
        epochs=500,
        batch_size=16,
        lr=0.01,
        lr_batch=_NOMINAL_BATCH,
        momentum=0.937,
        weight_decay=5e-4,
        warmup_steps=5500,  # three epochs of COCO at 64 images a step
        schedule="cosine",
        clip_norm=10.0,
        ema=0.9999,
    )
