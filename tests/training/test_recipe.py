"""A recipe refuses numbers that cannot train, in one sentence that names them."""

from __future__ import annotations

import re

import pytest

from torso.parts import PartError
from torso.training.recipes.retinanet import retinanet


@pytest.mark.parametrize(
    ("argument", "value", "sentence"),
    [
        ("epochs", 0, "epochs must be at least 1; 0 came"),
        ("steps", 0, "steps must be at least 1; 0 came"),
        ("lr_batch", 0, "lr_batch must be at least 1; 0 came"),
        ("lr", 0.0, "lr must be above 0; 0.0 came"),
        ("clip_norm", 0.0, "clip_norm must be above 0; 0.0 came"),
        ("weight_decay", -1.0, "weight_decay must not be below 0; -1.0 came"),
        ("warmup_steps", -5, "warmup_steps must not be below 0; -5 came"),
        ("ema", 1.0, "ema and momentum lie in 0..1"),
        ("close_mosaic", 15.0, "close_mosaic is a share of the run, 0..1 (0.05 is 15 of 300 epochs); 15.0 came"),
        ("milestones", (7.0, 9.0), "milestones are rising shares"),
        ("milestones", (0.9, 0.5), "milestones are rising shares"),
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
    with pytest.raises(ValueError, match=r"wants|must be at least 1|detects nothing"):
        retinanet().override(path, value).get("model").build()
