"""Wrong kinds of values at the public doors of Python: one sentence in Python's words, never a foreign error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import torso

SMALL = {"backbone.name": "test_resnet", "head.channels": 8, "head.tower": 1, "neck.channels": 8}


@pytest.fixture(scope="module")
def model() -> torso.Detector:
    return torso.create("fcos", num_classes=2, overrides=SMALL).eval()


DOORS: list[tuple[str, Callable[[Any, Any], object], list[object]]] = [
    ("create name", lambda m, v: torso.create(v), [None, 3, ["fcos"], object()]),
    ("create num_classes", lambda m, v: torso.create("fcos", num_classes=v), ["3", 2.5, [3], True, 0]),
    ("create class_names", lambda m, v: torso.create("fcos", class_names=v), ["cat", 3, [1, 2], {"a": 1}]),
    ("create backbone", lambda m, v: torso.create("fcos", backbone=v), [3, ["resnet18"], object()]),
    ("create neck", lambda m, v: torso.create("fcos", neck=v), [123, [3], object()]),
    ("create head", lambda m, v: torso.create("fcos", head=v), [1.5, ["fcos"]]),
    ("create overrides", lambda m, v: torso.create("fcos", overrides=v), [["neck.channels"], "lr=1", 3]),
    ("create pretrained", lambda m, v: torso.create("fcos", pretrained=v), [3, ["hub"], object()]),
    ("recipe name", lambda m, v: torso.recipe(v), [None, 3, ["fcos"]]),
    ("load", lambda m, v: torso.load(v), [None, 123, ["a"], b"a", "nothing.safetensors"]),
    ("save path", lambda m, v: torso.save(v, m, torso.part("zoo.fcos")), [None, 3, ["a"]]),
    ("save model", lambda m, v: torso.save("never.safetensors", v, torso.part("zoo.fcos")), [None, "fcos", 3]),
    ("save part", lambda m, v: torso.save("never.safetensors", m, v), [None, "fcos", 3]),
    ("transfer model", lambda m, v: torso.transfer(v, "nothing.ckpt"), [None, "fcos", 3]),
    ("transfer source", lambda m, v: torso.transfer(m, v), [None, 3, ["a"]]),
    ("from_yaml", lambda m, v: torso.from_yaml(v), [None, 3, ["a"], {"part": "necks.fpn"}]),
    ("part", lambda m, v: torso.part(v), [None, 3, ["fpn"], "no such part"]),
    ("find", lambda m, v: torso.find(v, "necks"), ["no such neck"]),
    ("from_dict", lambda m, v: torso.Part.from_dict(v), [None, 3, [], "fpn", {}]),
    ("predict", lambda m, v: m.predict(v), [None, 3, object(), {"a": 1}, np.zeros((4, 4, 7)), "no/such/file.jpg"]),
    ("predict score", lambda m, v: m.predict([], score_threshold=v), [2, -0.1, "0.5", None]),
    ("predict batch", lambda m, v: m.predict([], batch_size=v), [0, 1.5, "2", None]),
    ("forward", lambda m, v: m(v), [None, 3, "image.jpg", [1], torch.zeros(3, 8, 8), torch.zeros(1, 4, 64, 64)]),
    ("train recipe", lambda m, v: torso.train(v, "nowhere"), [None, "fcos", 3]),
    ("open_dataset", lambda m, v: torso.open_dataset(v), [None, 3, ["a"], "no/such/folder"]),
    ("evaluate model", lambda m, v: torso.evaluate(v, "x"), [None, "fcos", 3]),
]
CASES = [(name, call, value) for name, call, values in DOORS for value in values]


@pytest.mark.parametrize(("name", "call", "value"), CASES, ids=[f"{n} {str(v)[:20]!r}" for n, _, v in CASES])
def test_a_wrong_kind_is_told_in_one_sentence(
    name: str, call: Callable[[Any, Any], object], value: object, model: torso.Detector, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the sentence is looked at below
        call(model, value)
    sentence = str(refused.value)
    assert sentence
    assert "\n" not in sentence
    assert len(sentence) < 400
    assert "validation error" not in sentence
    assert not list(tmp_path.iterdir())


def test_what_people_write_elsewhere_works(model: torso.Detector, tmp_path: Path) -> None:
    """A plain tensor as input, the folder of a run as weights, an empty list of images."""
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).logits.shape[0] == 1
    assert model.predict([]) == []
    torso.save(tmp_path / "model.safetensors", model, torso.compose_model("fcos", num_classes=2, overrides=SMALL))
    assert torso.load(tmp_path).num_classes == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_missing_gpu_is_told_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data.builders import write_coco

    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path / "data", n_images=2)
    recipe = torso.recipe("fcos", overrides={**SMALL, "epochs": 1})
    with pytest.raises(ValueError, match=r"accelerator: expected 1 CUDA device, of which torch finds 0 here"):
        torso.train(recipe, tmp_path / "data", accelerator="gpu", workers=0, progress=False)
    assert not (tmp_path / "runs").exists()
