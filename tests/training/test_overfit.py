"""Every recipe can learn eight real pictures by heart: what neither shapes nor single gradients prove."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from torso.data.annotations import Annotations
from torso.evaluation.proposals import evaluate_proposals
from torso.evaluation.run import collect
from torso.parts import Part, names
from torso.training.compose import compose_recipe
from torso.training.engine import train
from torso.training.recipes.recipe import Recipe
from torso.training.run import RunResult
from torso.training.splits import as_objects, open_splits
from torso.weights import load

NARROW = {"neck.channels": 48, "head.channels": 48}
DENSE = {**NARROW, "head.tower": 1, "head.prior_probability": 0.05}
HALF_ANCHORS = {"head.priors.base_scale": 4.0}  # the pictures are 0.4 of their size, the smallest objects 12 px

# Steps, and what differs from small_recipe. FCOS has one positive point where RetinaNet has nine anchors: small objects
# take it a larger picture and more steps.
SETTINGS: dict[str, tuple[int, dict[str, object]]] = {
    "retinanet": (200, DENSE),
    "fcos": (300, {**DENSE, "input.size_hw": (256, 320), "head.tower": 0, "lr": 3e-3}),
    "atss": (130, {**DENSE, **HALF_ANCHORS}),
    "centernet_points": (
        100,
        {
            "neck.widths": (64, 48, 48),
            "head.channels": 48,
            "head.prior_probability": 0.05,
            "backbone.frozen_norm": True,  # two pictures are too few for statistics
        },
    ),
    "faster_rcnn": (
        130,
        {
            "neck.channels": 48,
            "head.channels": 128,
            "head.proposer.channels": 48,
            "head.proposer.priors.base_scale": 4.0,
            "head.proposal_top": 200,
            "head.proposals": 100,
            "criterion.proposal_top": 300,
            "criterion.proposals": 200,
            "criterion.sampler.number": 128,
        },
    ),
}
FULL_STEPS = 400
RPN: tuple[int, dict[str, object]] = (80, {**NARROW, **HALF_ANCHORS, "suppression.max_detections": 300})


def small_recipe(model: str, weights: Path, **changes: object) -> Part[Recipe]:
    """A zoo model on a pretrained EfficientNet-Lite0 with small pictures, for a minute of one core."""
    overrides = {
        "input.size_hw": (192, 256),
        "pretrained": str(weights),
        "augment": (),
        "batch_size": 2,
        "optimizer": "adamw",
        "lr": 2e-3,
        "lr_batch": None,
        "backbone_lr": 0.2,
        "clip_norm": 1.0,
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


def overfit(
    recipe: Part[Recipe], annotations: Annotations, steps: int, run_dir: Path, accelerator: str = "cpu"
) -> RunResult:
    """What a run leaves that is judged on the very pictures that it trained on, after so many optimiser steps."""
    return train(
        recipe.with_args(steps=steps),
        (annotations, annotations),
        run_dir=run_dir,
        accelerator=accelerator,
        devices=1,
        workers=0,
        progress=False,
        eval_every=steps,
    )


def proposal_recall(weights: Path, annotations: Annotations, *, k: int) -> float:
    """Class-agnostic recall at IoU 0.5 of a published proposer's k best boxes a picture."""
    objects = as_objects(annotations)
    results = collect(load(weights), objects).results()
    return evaluate_proposals(objects, results, limits=(k,)).recall_at(0.5, k)


def full_recipe(model: str, weights: Path) -> Part[Recipe]:
    """A zoo model as it is, widths and anchors too, but for its backbone, at the pictures' full size, for a GPU."""
    changes = {"input.size_hw": (640, 640), "batch_size": 4, "lr": 1e-3, "warmup_steps": 20, "compile": "no"}
    return small_recipe(model, weights, **changes)


@pytest.fixture
def backbone_weights(shared_data: Path) -> Path:
    return shared_data / "weights" / "tf_efficientnet_lite0_in1k_timm.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("model", SETTINGS)
def test_learns_eight_pictures_by_heart(shared_data, backbone_weights, tmp_path, model):
    """Tuned for the time: backbone, widths, tower, prior probability, size of the pictures and (atss, faster_rcnn) with
    it of the anchors, numbers of proposals and of sampled rows, centernet's frozen BatchNorm, no augmentation, the
    optimiser's settings and the steps. As in the recipe: losses and weights, assigner, thresholds, suppression.
    """
    steps, changes = SETTINGS[model]
    recipe = small_recipe(model, backbone_weights, **changes)
    scores = overfit(recipe, balanced_pictures(shared_data / "bccd"), steps, tmp_path).scores
    assert scores is not None
    assert scores.AP50 > 0.9, str(scores)


@pytest.mark.slow
def test_rpn_proposes_every_object_of_eight_pictures(shared_data, backbone_weights, tmp_path):
    """Judged on the 100 best of its 300 boxes, which find 4 % of the objects after a single step. Tuned as above."""
    steps, changes = RPN
    pictures = balanced_pictures(shared_data / "bccd")
    result = overfit(small_recipe("rpn", backbone_weights, **changes), pictures, steps, tmp_path)
    recall = proposal_recall(result.weights, pictures, k=100)
    assert recall > 0.95, f"recall {recall:.3f} at IoU 0.5 with 100 proposals"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", names("zoo"))
def test_learns_eight_pictures_by_heart_at_full_size(shared_data, backbone_weights, tmp_path, model):
    """Every zoo model with its own widths, anchors, losses and thresholds on EfficientNet-Lite0, in bf16."""
    pictures = balanced_pictures(shared_data / "bccd")
    result = overfit(full_recipe(model, backbone_weights), pictures, FULL_STEPS, tmp_path, "gpu")
    if model == "rpn":
        recall = proposal_recall(result.weights, pictures, k=100)
        assert recall > 0.95, f"recall {recall:.3f} at IoU 0.5 with 100 proposals"
    else:
        assert result.scores is not None
        assert result.scores.AP50 > 0.9, str(result.scores)
