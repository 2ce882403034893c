"""One member of each family can learn eight real images by heart: its head, assigner, losses, coder, suppression."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from training.overfitting import SCRATCH, balanced_images, overfit, small_recipe

HALF_STRIDES = {"neck.finest": 4, "head.finest": 4}  # the images are 0.4 of their size, the smallest objects 12 px
LIKELY = {"head.prior_probability": 0.05}
YOLO_WIDTHS = (32, 48, 64)


class Case(NamedTuple):
    """Steps, and what differs from small_recipe; grid as in balanced_images."""

    steps: int
    changes: dict[str, object]
    grid: int | None = None


CASES = {
    "gfl": Case(
        110,
        {
            **HALF_STRIDES, **LIKELY, "neck.coarsest": 64, "head.coarsest": 64, "neck.channels": 48,
            "head.channels": 48, "head.tower": 1, "lr": 4e-3,
        },
    ),
    "ssd300": Case(70, {"input.size_hw": (300, 300), "neck.widths": (128, 64, 64, 64)}),
    "yolov1": Case(
        150,
        {
            "input": "fixed", "input.size_hw": (224, 224), "head.finest": 16, "head.channels": 128,
            "head.hidden": 512, "head.dropout": 0.0, "lr": 1e-3,
        },
        grid=7,
    ),
    "yolov2": Case(120, {"neck.channels": 96, "neck.narrow": 16, "head.channels": 96, "lr": 4e-3}),
    "yolov3": Case(100, {"neck.channels": YOLO_WIDTHS, "head.channels": YOLO_WIDTHS}),
    "yolov4": Case(
        140,
        {
            "neck.0.block.channels": 64, "neck.1.channels": YOLO_WIDTHS, "head.channels": YOLO_WIDTHS, "lr": 4e-3,
        },
    ),
    "yolov5n": Case(160, {"neck.widths": YOLO_WIDTHS, "lr": 6e-3}),
    "yolox_tiny": Case(
        160, {"neck.widths": YOLO_WIDTHS, "neck.channels": 48, "head.channels": 48, "lr": 8e-3}
    ),
    "tal_n": Case(
        110,
        {
            **HALF_STRIDES, "neck.coarsest": 16, "head.coarsest": 16, "neck.widths": (24, 32, 48),
            "head.channels": 48, "head.box_channels": 32, "head.coder.reg_max": 7, "head.prior_probability": 0.01,
            "lr": 5e-3,
        },
    ),
    "efficientdet_d0": Case(
        110,
        {
            **LIKELY, "neck.channels": 48, "neck.layers": 1, "head.channels": 48, "head.tower": 1,
            "head.priors.base_scale": 2.0, "lr": 6e-3,
        },
    ),
    "spinenet_49s": Case(
        120,
        {
            **LIKELY, **SCRATCH, "backbone": None, "backbone.filter_scale": 0.25, "backbone.channels": 48,
            "backbone.drop_path": 0.0, "head.channels": 48, "head.tower": 1, "head.priors.base_scale": 1.5, "lr": 4e-3,
        },
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("model", CASES)
def test_learns_eight_images_by_heart(shared_data, backbone_weights, tmp_path, model):
    """Tuned for the time, as in test_overfit: backbone (EfficientNet-Lite0, or SpineNet at a quarter of its width),
    widths, towers, size of the images and with it of strides, anchors and (tal) distances, prior probability, no
    dropout, augmentation, scales and average, the optimiser's settings and the steps. As in the recipe: the form of
    head, coder and neck, assigner, losses and their weights, suppression.

    YOLOv1 has images of which no two objects share a cell: it learns one a cell. TAL's boxes begin eight strides to
    each side; of objects a tenth as wide, alignment^6 tells it nothing for hundreds of steps: hence half the distances.
    """
    case = CASES[model]
    recipe = small_recipe(model, backbone_weights, **case.changes)
    images = balanced_images(shared_data / "bccd", grid=case.grid)
    result = overfit(recipe, images, case.steps, tmp_path)
    assert result.scores is not None
    assert result.scores.AP50 > 0.9, str(result.scores)
