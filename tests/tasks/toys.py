"""The two toys as cases: a recipe of each, its data, and a batch in double precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tasks.toy_classifier import Classifier, CrossEntropy
from tasks.toy_queries import HungarianCriterion, QueryHead
from training.small import SIZE_HW, data_set

from torso.backbones.timm import Timm
from torso.inputs.fixed import Fixed
from torso.models.detector import Detector
from torso.parts import Part, part
from torso.suppression.none import NoSuppression
from torso.training.recipes.recipe import Recipe

COLOURS = {"blue": (20, 40, 200), "red": (210, 30, 40)}
STEPS = {"batch_size": 2, "epochs": 2, "warmup_steps": 1, "optimizer": "adamw", "lr": 3e-3, "lr_batch": None}


class Toy(NamedTuple):
    """recipe: with arguments of the recipe changed; data: a folder made below the one given; verbs: what its scores
    and its `torso show` must say.
    """

    recipe: Callable[..., Part[Recipe]]
    data: Callable[[Path], Path]
    headline: str
    shown: str


def classifier_recipe(**changes: Any) -> Part[Recipe]:
    model = part(Classifier, dropout=0.1)
    return part(Recipe, model=model, criterion=part(CrossEntropy), **{**STEPS, **changes})


def query_recipe(**changes: Any) -> Part[Recipe]:
    model = part(
        Detector,
        backbone=part(Timm, name="test_resnet", frozen_norm=True),
        head=part(QueryHead),
        suppression=part(NoSuppression),
        input=part(Fixed, size_hw=SIZE_HW),
    )
    return part(Recipe, model=model, criterion=part(HungarianCriterion), **{**STEPS, **changes})


def image_folder(root: Path) -> Path:
    """train/ and val/ with a folder a class: five and three images of a colour and noise each."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 5), ("val", 3)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(number):
                noisy = np.clip(rng.normal(colour, 30, (20, 30, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(root / split / name / f"{name}_{i}.png")
    return root


TOYS = {
    "classifier": Toy(classifier_recipe, image_folder, "top1", "logits"),
    "queries": Toy(query_recipe, lambda root: data_set(root, 10, 4), "AP", "boxes"),
}
