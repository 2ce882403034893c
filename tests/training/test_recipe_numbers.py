"""The recipes' numbers are the published ones: of the losses, of the rate for one batch, of the length."""

from __future__ import annotations

import pytest

from torso.parts import find
from torso.training.recipes.recipe import Recipe

SUMS_PER_IMAGE = {"criterion.normaliser": "batch", "criterion.cls.on": "positives", "criterion.quality.on": "used"}
ONE_X = {"lr_batch": 16, "epochs": 12, "momentum": 0.9, "weight_decay": 1e-4, "milestones": (8 / 12, 11 / 12)}
DARKNET = {"lr_batch": 64, "epochs": 273, "weight_decay": 5e-4, "milestones": (0.8, 0.9), **SUMS_PER_IMAGE}
FOCAL = {"criterion.cls.loss.alpha": 0.25, "criterion.cls.loss.gamma": 2.0}
RPN = {"positive": 0.7, "negative": 0.3, "rescue_above": 0.3}

PUBLISHED: dict[str, dict[str, object]] = {
    # arXiv 1708.02002; smooth L1 from 1/9 on is Detectron's
    "retinanet": {
        **ONE_X, **FOCAL, "lr": 0.01, "criterion.assigner.positive": 0.5, "criterion.assigner.negative": 0.4,
        "criterion.box.loss.beta": 1 / 9, "criterion.box.weight": 1.0,
    },
    # 1904.01355
    "fcos": {
        **ONE_X, **FOCAL, "lr": 0.01, "criterion.box.loss.form": "log", "criterion.box.weighting": "quality",
        "criterion.box.weight": 1.0, "criterion.quality.weight": 1.0,
    },
    # 1912.02424
    "atss": {**ONE_X, **FOCAL, "lr": 0.01, "criterion.assigner.candidates": 9, "criterion.box.weight": 2.0},
    # 2006.04388
    "gfl": {
        **ONE_X, "lr": 0.01, "criterion.cls.loss.beta": 2.0, "criterion.box.weight": 2.0,
        "criterion.distribution.weight": 0.25,
        "criterion.box.weighting": "score",
    },
    # 1506.01497, schedule of mmdetection's 1x
    "rpn": {
        **ONE_X, "lr": 0.02, **{f"criterion.assigner.{k}": v for k, v in RPN.items()},
        "criterion.sampler.number": 256, "criterion.sampler.positive_share": 0.5,
    },
    "faster_rcnn": {
        **ONE_X, "lr": 0.02, **{f"criterion.first.assigner.{k}": v for k, v in RPN.items()},
        "criterion.assigner.positive": 0.5, "criterion.sampler.number": 512, "criterion.sampler.positive_share": 0.25,
    },
    # 1512.02325
    "ssd300": {
        "lr": 1e-3, "lr_batch": 32, "weight_decay": 5e-4, "criterion.assigner.threshold": 0.5,
        "criterion.sampler.ratio": 3.0, "criterion.box.loss.beta": 1.0, "criterion.box.weight": 1.0,
    },
    # 1506.02640
    "yolov1": {
        "lr": 0.01, "lr_batch": 64, "epochs": 135, "momentum": 0.9, "weight_decay": 5e-4,
        "milestones": (75 / 135, 105 / 135), "criterion.box_weight": 5.0, "criterion.background_weight": 0.5,
    },
    # darknet's yolov2.cfg, yolov3.cfg, yolov4.cfg; 2.4 as the recipe explains
    "yolov2": {
        **DARKNET, "lr": 1e-3, "momentum": 0.9, "criterion.assigner.ignore_above": 0.6,
        "criterion.quality.positive_weight": 5.0, "criterion.quality.loss": "squared",
        "criterion.box.weighting": "size",
    },
    "yolov3": {
        **DARKNET, "lr": 1e-3, "momentum": 0.9, "criterion.assigner.ignore_above": 0.7,
        "criterion.box.weighting": "size", "criterion.box.weight": 1.0, "criterion.quality.target": "one",
    },
    "yolov4": {
        **DARKNET, "lr": 1.3e-3, "momentum": 0.949, "criterion.assigner.ignore_above": 0.7,
        "criterion.assigner.extra_iou": 0.213, "criterion.box.weight": 2.4, "criterion.box.weighting": "none",
    },
    # zenodo.3908559: terms times the 64 images of a step
    "yolov5s": {
        "lr": 0.01, "lr_batch": 64, "epochs": 300, "momentum": 0.937, "weight_decay": 5e-4,
        "criterion.box.weight": 64 * 0.05, "criterion.cls.weight": 64 * 0.5 / 80, "criterion.quality.weight": 64.0,
        "criterion.quality.level_weights": (4.0, 1.0, 0.4), "criterion.assigner.max_ratio": 4.0,
        "criterion.per_level": True,
        "criterion.quality.target": "ciou", "criterion.quality.normaliser": "sampled",
    },
    # 2107.08430
    "yolox_s": {
        "lr": 0.01, "lr_batch": 64, "epochs": 300, "weight_decay": 5e-4, "close_mosaic": 15 / 300,
        "criterion.box.weight": 5.0, "criterion.cls.weight": 1.0, "criterion.quality.weight": 1.0,
        "criterion.box.loss.form": "square", "criterion.normaliser": "positives", "criterion.cls.on": "positives",
    },
    # 2108.07755 with the numbers of the YOLO line's later heads
    "tal_s": {
        "lr": 0.01, "lr_batch": 64, "epochs": 500, "close_mosaic": 10 / 500, "criterion.box.weight": 64 * 7.5,
        "criterion.cls.weight": 64 * 0.5, "criterion.distribution.weight": 64 * 1.5, "criterion.normaliser": "quality",
        "criterion.box.weighting": "quality", "criterion.assigner.alpha": 0.5, "criterion.assigner.beta": 6.0,
        "criterion.assigner.top": 10,
    },
    # 1911.09070
    "efficientdet_d0": {
        "lr": 0.16, "lr_batch": 128, "epochs": 300, "weight_decay": 4e-5, "criterion.cls.loss.alpha": 0.25,
        "criterion.cls.loss.gamma": 1.5, "criterion.box.loss.beta": 0.1, "criterion.box.weight": 50 / 40,
    },
    # 1904.07850
    "centernet_points": {
        "lr": 5e-4, "lr_batch": 128, "epochs": 140, "milestones": (90 / 140, 120 / 140), "optimizer": "adam",
        "criterion.size_weight": 0.1, "criterion.offset_weight": 1.0, "criterion.cls_loss.alpha": 2.0,
        "criterion.cls_loss.beta": 4.0,
    },
    # 1912.05027
    "spinenet_49": {"lr": 0.28, "lr_batch": 256, "epochs": 500, "weight_decay": 4e-5, "criterion.box.loss.beta": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_are_the_published_ones(name: str) -> None:
    """As the built recipe has them, defaults of its parts included."""
    recipe: Recipe = find(name, "recipes")().build()
    for path, wanted in PUBLISHED[name].items():
        value: object = recipe
        for step in path.split("."):
            value = value.get(step) if hasattr(value, "get") else getattr(value, step)
        assert value == pytest.approx(wanted) if isinstance(wanted, float | tuple) else value == wanted, (path, value)
