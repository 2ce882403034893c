"""A recipe refuses numbers that cannot train, in one sentence that names them."""

from __future__ import annotations

import re

import pytest

from torso.parts import PartError
from torso.training.recipes.retinanet import retinanet


@pytest.mark.parametrize(
    ("argument", "value", "sentence"),
    [
        ("epochs", 0, "Recipe.epochs: expected a whole number of at least 1, got 0"),
        ("steps", 0, "Recipe.steps: expected a whole number of at least 1 or none, got 0"),
        ("lr_batch", 0, "Recipe.lr_batch: expected a whole number of at least 1 or none, got 0"),
        ("lr", 0.0, "Recipe.lr: expected a number above 0, got 0.0"),
        ("clip_norm", 0.0, "Recipe.clip_norm: expected a number above 0 or none, got 0.0"),
        ("weight_decay", -1.0, "Recipe.weight_decay: expected a number of at least 0, got -1.0"),
        ("warmup_steps", -5, "Recipe.warmup_steps: expected a whole number of at least 0, got -5"),
        ("ema", 1.0, "Recipe.ema: expected a number of at least 0 and below 1, got 1.0"),
        ("close_mosaic", 15.0, "Recipe.close_mosaic: expected a number from 0 to 1, got 15.0"),
        (
            "milestones",
            (7.0, 9.0),
            "Recipe.milestones: expected a list of a number above 0 and below 1, got (7.0, 9.0)",
        ),
        ("milestones", (0.9, 0.5), "Recipe.milestones: expected rising shares of the steps, got (0.9, 0.5)"),
    ],
)
def test_numbers_that_cannot_train(argument: str, value: object, sentence: str) -> None:
    with pytest.raises(PartError, match=re.escape(sentence)):
        retinanet().with_args(**{argument: value}).build()


@pytest.mark.parametrize(
    ("path", "value"),
    [("model.neck.channels", 0), ("model.head.channels", 0), ("model.head.tower", -1), ("model.head.norm", "bn")],
)
def test_layers_that_cannot_be(path: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"expected a whole number of at least [01]|detects nothing"):
        retinanet().override(path, value).get("model").build()
