"""Training a zoo model on eight real images and evaluating it on the same ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torso.data.annotations import Annotations
from torso.data.splits import as_objects, open_splits
from torso.engine.run_folder import RunResult
from torso.engine.train import train
from torso.evaluation.proposals import evaluate_proposals
from torso.evaluation.run import collect
from torso.parts import Part
from torso.training.compose_recipe import compose_recipe
from torso.training.recipes.recipe import Recipe
from torso.weights import load

FULL_STEPS = 400
SCRATCH = {"pretrained": None, "backbone_lr": 1.0}  # for the models that keep a backbone of their own


def small_recipe(
    model: str,
    weights: Path | None,
    *,
    backbone: str | None = "tf_efficientnet_lite0",
    input: str | None = "letterbox",
    **changes: object,
) -> Part[Recipe]:
    """A zoo model on a pretrained EfficientNet-Lite0 with small images, for a minute of one core.

    backbone, input: None keeps the model's own.
    """
    overrides = {
        "input.size_hw": (192, 256),
        "pretrained": None if weights is None else str(weights),
        "augment": (),
        "scales": (1.0,),
        "batch_size": 2,
        "optimizer": "adamw",
        "lr": 2e-3,
        "lr_batch": None,
        "backbone_lr": 0.2,
        "clip_norm": 1.0,
        "warmup_steps": 10,
        "schedule": "cosine",
        "ema": 0.0,
        **changes,
    }
    return compose_recipe(model, backbone=backbone, input=input, overrides=overrides)


def full_recipe(model: str, weights: Path | None) -> Part[Recipe]:
    """A zoo model as it is, widths and anchors too, but for its backbone, at the images' full size, for a GPU.

    Models of one image size keep it, the others get 640 x 640. SpineNet is backbone and neck in one, and stays.

    weights: of EfficientNet-Lite0; None keeps the model's own body, at random and learning whole.
    """
    changes: dict[str, object] = {"batch_size": 4, "lr": 1e-3, "warmup_steps": 20, "compile": "no"}
    policy = compose_recipe(model).get("model").get("input")
    fixed = policy.accepts("size_hw")
    changes["input.size_hw"] = policy.get("size_hw") if fixed else (640, 640)
    backbone: str | None = "tf_efficientnet_lite0"
    if weights is None or model.startswith("spinenet"):
        backbone, changes = None, {**changes, **SCRATCH, **_without_drop_path(model)}
    elif model in ("yolov1", "yolox_m"):
        changes["backbone.frozen_norm"] = True  # four images' statistics are not those by which it is evaluated
    if model == "yolov1":
        changes["head.dropout"] = 0.0  # it is there against learning by heart
        changes["clip_norm"] = 10.0  # as in its recipe: its gradients begin in the thousands
    return small_recipe(model, weights, backbone=backbone, input=None if fixed else "letterbox", **changes)


def _without_drop_path(model: str) -> dict[str, object]:
    """Against learning by heart too."""
    backbone = compose_recipe(model).get("model").get("backbone")
    return {"backbone.drop_path": 0.0} if backbone.accepts("drop_path") else {}


def balanced_images(folder: Path, count: int = 8, *, grid: int | None = None) -> Annotations:
    """The images with most boxes of the rarest class: what few boxes teach takes many steps, not another detector.

    grid: only images of whose boxes no two have their centres in one of grid x grid cells.
    """
    found = open_splits(folder).train
    if grid is not None:
        found = found.keep_images(~_shared_cells(found, grid))
    rarest = np.bincount(found.labels).argmin()
    boxes = np.bincount(found.image_of_box[found.labels == rarest], minlength=len(found))
    return found.keep_images(np.isin(np.arange(len(found)), np.argsort(-boxes, kind="stable")[:count]))


def _shared_cells(found: Annotations, grid: int) -> NDArray[np.bool_]:
    """[images]: whether any cell of the image holds two centres."""
    size_xy = np.asarray(found.size_hw)[found.image_of_box][:, ::-1]
    centers = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    x, y = np.clip((centers / size_xy * grid).astype(int), 0, grid - 1).T
    cells = (found.image_of_box * grid + y) * grid + x
    return np.bincount(cells, minlength=len(found) * grid**2).reshape(len(found), -1).max(1) > 1


def overfit(
    recipe: Part[Recipe], annotations: Annotations, steps: int, run_dir: Path, accelerator: str = "cpu"
) -> RunResult:
    """What a run leaves that is evaluated on the very images that it trained on, after so many optimiser steps."""
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
    """Class-agnostic recall at IoU 0.5 of a published proposer's k best boxes an image."""
    objects = as_objects(annotations)
    results = collect(load(weights), objects).results()
    return evaluate_proposals(objects, results, limits=(k,)).recall_at(0.5, k)
