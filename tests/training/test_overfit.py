"""Every recipe can learn eight real pictures by heart: what neither shapes nor single gradients prove."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torso.data.annotations import Annotations
from torso.evaluation.detection import DetectionScores
from torso.parts import Part
from torso.training.compose import compose_recipe
from torso.training.engine import train
from torso.training.recipes.recipe import Recipe
from torso.training.splits import open_splits

# Steps, and what differs from small_recipe. FCOS has one positive point where RetinaNet has nine anchors: small objects
# take it a larger picture and more steps.
SETTINGS: dict[str, tuple[int, dict[str, object]]] = {
    "retinanet": (200, {}),
    "fcos": (300, {"input.size_hw": (256, 320), "head.tower": 0, "lr": 3e-3}),
}


def small_recipe(model: str, weights: Path, **changes: object) -> Part[Recipe]:
    """A zoo model on a pretrained EfficientNet-Lite0 with a narrow neck and head, for a minute of one core."""
    overrides = {
        "input.size_hw": (192, 256),
        "neck.channels": 48,
        "head.channels": 48,
        "head.tower": 1,
        "pretrained": str(weights),
        "augment": (),
        "batch_size": 2,
        "optimizer": "adamw",
        "lr": 2e-3,
        "lr_batch": None,
        "backbone_lr": 0.2,
        "clip_norm": 1.0,
        "head.prior_probability": 0.05,
        "warmup_steps": 10,
        "schedule": "cosine",
        **changes,
    }
    return compose_recipe(model, backbone="tf_efficientnet_lite0", input="letterbox", overrides=overrides)


def balanced_pictures(folder: Path, count: int = 8) -> Annotations:
    """The pictures with most boxes of the rarest class: what few boxes teach takes many steps, not another detector."""
    found = open_splits(folder).train
    rarest = np.bincount(found.labels).argmin()
    boxes = np.bincount(found.image_of_box[found.labels == rarest], minlength=len(found))
    return found.keep_images(np.isin(np.arange(len(found)), np.argsort(-boxes, kind="stable")[:count]))


def overfit(recipe: Part[Recipe], annotations: Annotations, steps: int, run_dir: Path) -> DetectionScores:
    """Scores on the very pictures that were trained on, after so many optimiser steps."""
    result = train(
        recipe.with_args(steps=steps),
        (annotations, annotations),
        run_dir=run_dir,
        accelerator="cpu",
        workers=0,
        progress=False,
        eval_every=steps,
    )
    assert result.scores is not None
    return result.scores


@pytest.mark.slow
@pytest.mark.parametrize("model", SETTINGS)
def test_learns_eight_pictures_by_heart(shared_data, tmp_path, model):
    weights = shared_data / "weights" / "tf_efficientnet_lite0_in1k_timm.safetensors"
    steps, changes = SETTINGS[model]
    scores = overfit(small_recipe(model, weights, **changes), balanced_pictures(shared_data / "bccd"), steps, tmp_path)
    assert scores.AP50 > 0.9, str(scores)
