"""Files that torso wrote before its parts were moved: they load, answer as they did, and go on training.

The folders beside this file were made by `python tools/golden.py files` at torso 0.1.0 and are not to be made anew.
"""

from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden.dataset import CLASSES, TRAIN, make_image, write

import torso

HERE = Path(__file__).parent
FAMILIES = sorted(folder.parent.name for folder in HERE.glob("*/recipe.yaml"))
STEPS, KEPT_STEP = 5, 3
"""Of the runs that wrote the files; the step that their checkpoints stand after."""
CATEGORY_IDS = (2, 7)

Command = Callable[..., str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`python -m torso` in this process: its standard output; fails where its exit status is not 0."""

    def run(*words: object) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["torso", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            runpy.run_module("torso", run_name="__main__")
        out, err = capsys.readouterr()
        assert end.value.code == 0, err
        return out

    return run


def test_every_family_is_here() -> None:
    """The parametrised tests below walk what lies here: none of it may be lost."""
    assert FAMILIES == [
        "centernet_points", "efficientdet_d0", "faster_rcnn", "fcos", "gfl", "retinanet", "ssd300", "tal_n", "yolov1",
        "yolov3", "yolov5n", "yolox_tiny",
    ]  # fmt: skip


@pytest.mark.parametrize("file", ["model.safetensors", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("family", FAMILIES)
def test_old_weights_find_what_they_found(family: str, file: str) -> None:
    expected = json.loads((HERE / family / "expected.json").read_text())[file]
    model = torso.load(HERE / family / file)
    assert model.names == CLASSES
    found = model.predict(make_image(TRAIN)[0], score_threshold=0.0)
    results = found.to_coco(1, CATEGORY_IDS)
    assert len(results) == expected["count"]
    for one in expected["best"]:
        assert any(is_same(one, other) for other in results), f"{one} is not among {results[:8]}"


def is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal class, scores to 1e-4 of their size, corners to a hundredth of a pixel."""
    boxes = [torch.tensor(result["bbox"], dtype=torch.float64) for result in (one, other)]
    return (
        one["category_id"] == other["category_id"]
        and other["score"] == pytest.approx(one["score"], rel=1e-4, abs=2e-7)
        and torch.allclose(*boxes, rtol=0, atol=1e-2)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_an_old_recipe_composes_the_model_of_its_weights(family: str, command: Command) -> None:
    path = HERE / family / "recipe.yaml"
    recipe = torso.from_yaml(path)
    assert torso.Part.from_dict(recipe.to_dict()) == recipe
    again = command("show", path, "--yaml")
    assert torso.from_yaml(again) == recipe, "what is printed of an old recipe is the same recipe"
    built = recipe.get("model").build().state_dict()
    kept = torso.load(HERE / family / "model.safetensors").state_dict()
    assert {name: value.shape for name, value in built.items()} == {name: value.shape for name, value in kept.items()}
    assert recipe.get("steps") == STEPS


@pytest.mark.parametrize("family", ["fcos", "yolov5n", "faster_rcnn", "centernet_points", "efficientdet_d0"])
def test_an_old_checkpoint_goes_on(family: str, command: Command, tmp_path: Path) -> None:
    """SGD with and without a frozen body, two batches a step, Adam, and averaged weights (EfficientDet)."""
    run, data = tmp_path / "run", write(tmp_path / "set")
    shutil.copytree(HERE / family, run, ignore=shutil.ignore_patterns("*.safetensors", "*.json"))
    before = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert before["global_step"] == KEPT_STEP
    command("train", "--resume", run, "--data", data, "--accelerator=cpu", "--workers=0", "--log-every=1")
    after = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert after["global_step"] == STEPS
    with (run / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert steps == list(range(KEPT_STEP + 1, STEPS + 1)), "no step is done twice or left out"
    old, new = before["state_dict"], after["state_dict"]
    assert any(not torch.equal(old[name], new[name]) for name in old), "it learned nothing"
    assert torso.load(run / "model.safetensors").names == CLASSES


@pytest.mark.parametrize("family", ["retinanet", "yolox_tiny"])
def test_an_old_recipe_is_trained_from_its_file(family: str, command: Command, tmp_path: Path) -> None:
    """And old weights are its start: every tensor of them fits."""
    data, weights = write(tmp_path / "set"), HERE / family / "model.safetensors"
    words = ["--data", data, "--out", tmp_path / "run", "--init", weights, "--accelerator=cpu", "--workers=0"]
    out = command("train", HERE / family / "recipe.yaml", *words, "--steps=1")
    assert re.search(r"^(kept|mapped) [1-9]\d*", out, re.MULTILINE)
    assert not re.search(r"^(new|dropped) \d+ tensors", out, re.MULTILINE)
    assert (tmp_path / "run" / "model.safetensors").is_file()
