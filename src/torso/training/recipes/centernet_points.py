"""How CenterNet is trained (arXiv 1904.07850, section 5)."""

from __future__ import annotations

from torso.data.transforms.horizontal_flip import HorizontalFlip
from torso.data.transforms.photometric import Photometric
from torso.data.transforms.scale_jitter import ScaleJitter
from torso.parts import Part, part
from torso.training.assigners.gaussian import GaussianAssigner
from torso.training.criteria.heatmap import HeatmapCriterion
from torso.training.losses.gaussian_focal import GaussianFocalLoss
from torso.training.losses.l1 import L1Loss
from torso.training.recipes.recipe import Recipe
from torso.zoo.centernet_points import centernet_points as model


def centernet_points(*, num_classes: int = 80) -> Part[Recipe]:
    """Adam, lr 5e-4 for 128 images, 140 epochs, steps at 90 and 120; flip, scales 0.6 to 1.3, colours.

    Ours: the warm-up, and the clipping of the gradient (mmdetection has both).
    """
    return part(
        Recipe,
        model=model(num_classes=num_classes),
        criterion=part(
            HeatmapCriterion,
            assigner=part(GaussianAssigner, min_overlap=0.7),
            cls_loss=part(GaussianFocalLoss, alpha=2.0, beta=4.0),
            box_loss=part(L1Loss),
            size_weight=0.1,
            offset_weight=1.0,
        ),
        augment=(
            part(ScaleJitter, size_hw=(512, 512), low=0.6, high=1.3),
            part(HorizontalFlip),
            part(Photometric),
        ),
        epochs=140,
        optimizer="adam",
        lr=5e-4,
        lr_batch=128,
        weight_decay=0.0,
        schedule="step",
        milestones=(90 / 140, 120 / 140),
        clip_norm=35.0,
    )
