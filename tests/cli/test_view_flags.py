"""Tiles, scales and flips from the command line: trained, evaluated and predicted with, and every refusal."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest
from cli.commands import QUICK, TINY, Command

from torso.cli._views import looked_at
from torso.inference.detections import Detections
from torso.inference.predictor import Predictor
from torso.inputs.letterbox import Letterbox
from torso.inputs.pyramid import Pyramid
from torso.inputs.tiles import Tiles
from torso.weights import load


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        (["--tiles=64", "--overlap=0.25"], {"tiles": Tiles(size_hw=(64, 64), overlap=0.25)}),
        (["--scales=0.5,1", "--flip"], {"pyramid": Pyramid(scales=(0.5, 1.0), flip=True)}),
        (
            ["--tiles", "48,64", "--no-whole", "--merge=suppression", "--flip"],
            {
                "tiles": Tiles(size_hw=(48, 64), whole=False, merge="suppression"),
                "pyramid": Pyramid(scales=(1.0,), flip=True),
            },
        ),
    ],
    ids=["tiles", "pyramid", "both"],
)
def test_predict_and_eval_look_as_they_are_told(
    torso: Command, data: Path, checkpoint: Path, tmp_path: Path, flags: list[str], settings: dict[str, object]
) -> None:
    image = data / "images" / "image_0_000.png"
    done = torso("predict", checkpoint, image, "--out", tmp_path / "x", "--score", 0.0, "--no-draw", *flags)
    assert done.code == 0
    results = json.loads((tmp_path / "x" / "results.json").read_text())
    found = Detections.from_coco(results, ("a", "b", "c"), (1, 3, 5))
    wanted = Predictor(load(checkpoint), **settings)([image])[0]  # type: ignore[arg-type]
    assert len(found) == len(wanted) > 0
    assert found.scores.allclose(wanted.scores, atol=1e-4)
    evaluated = torso("eval", checkpoint, "--data", data, "--json", "--batch-size=3", *flags)
    assert evaluated.code == 0
    scores = json.loads(evaluated.out)
    assert scores["images"] == 4
    alone = [len(Predictor(load(checkpoint), **settings)([p])[0]) for p in sorted(data.glob("images/image_1_*"))]  # type: ignore[arg-type]
    assert scores["detections"] == sum(alone)


def test_a_model_trained_on_tiles_is_evaluated_on_tiles(torso: Command, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    size = ("--tiles=64", "--overlap=0.25", "--train-scales=0.5,1")
    done = torso("train", "fcos", "--data", data, "--out", run, *TINY, *QUICK, *size, "--steps=3")
    assert done.code == 0, done.err
    policy = load(run / "model.safetensors").input
    assert isinstance(policy, Tiles)
    assert (policy.size_hw, policy.overlap) == ((64, 64), 0.25)
    assert isinstance(policy.inner, Letterbox)
    assert policy.inner.size_hw == (64, 96)
    at_end = json.loads((run / "predictions.json").read_text())
    again = json.loads(torso("eval", run, "--data", data, "--json").out)
    assert again["detections"] == len(at_end)
    whole = json.loads(torso("eval", run, "--data", data, "--json", "--tiles=none").out)
    assert whole["detections"] <= 400
    shown = torso("show", "fcos", *size, "--yaml").out
    assert "part: inputs.tiles" in shown
    assert "crowd: ignored" in shown
    assert "inputs.short_side" in shown or "inner" in shown
    by_part = ("--input=tiles", "--input.size_hw=64,64", "--input.overlap=0.25", "--train-scales=0.5,1")
    assert torso("show", "fcos", *by_part, "--yaml").out == shown


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tiles=0"], "--tiles 0 came; a side in px above 0"),
        (["--tiles=big"], "--tiles big came"),
        (["--tiles=1,2,3"], "HEIGHT,WIDTH"),
        (["--tiles=64", "--overlap=1.0"], "--overlap: expected a number from 0 to 0.9, got '1.0'"),
        (["--tiles=64", "--overlap=-0.1"], "--overlap: expected a number from 0 to 0.9, got '-0.1'"),
        (["--tiles=64", "--overlap=nan"], "--overlap: expected a number from 0 to 0.9, got 'nan'"),
        (["--overlap=0.1"], "this model has none; give --tiles SIZE"),
        (["--tiles=none", "--overlap=0.1"], "leave out --overlap"),
        (["--merge=union"], "give --tiles SIZE"),
        (["--merge=wbf"], "invalid choice: 'wbf'"),
        (["--scales="], "--scales '' came; different factors above 0"),
        (["--scales=1,-2"], "--scales '1,-2' came"),
        (["--scales=1,1"], "different factors"),
        (["--scales=a"], "as 0.5,1,2"),
        (["--train-scales=1,2"], "unknown flag --train-scales; it is of train; several sizes at test time"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_mistakes(torso: Command, checkpoint: Path, data: Path, tmp_path: Path, flags: list[str], said: str) -> None:
    for verb, more in (("predict", (data / "images", "--out", tmp_path / "x")), ("eval", ("--data", data))):
        done = torso(verb, checkpoint, *more, *flags)
        assert done.code == 2
        assert said in done.sentence
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tiles=0"], "--tiles 0 came"),
        (["--tiles=64", "--overlap=1"], "--overlap: expected a number from 0 to 0.9, got '1'"),
        (["--overlap=0.2"], "give --tiles SIZE"),
        (["--train-scales=1,-1"], "--train-scales: expected a list of a number above 0, at least one"),
        (["--train-scales="], "--train-scales: expected a list of a number above 0, at least one"),
        (["--scales=0.5,1"], "unknown flag --scales; it is of predict and eval; sizes of training are --train-scales"),
        (["--flip"], "unknown flag --flip; it is of predict and eval"),
        (["--input=pyramid", "--input.scales=0,1"], "--input.scales: expected a list of a number above 0"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_mistakes_of_training(torso: Command, data: Path, tmp_path: Path, flags: list[str], said: str) -> None:
    done = torso("train", "fcos", "--data", data, "--out", tmp_path / "run", *flags)
    assert done.code == 2
    assert said in done.sentence
    assert not (tmp_path / "run").exists()


def test_flags_leave_the_rest_of_a_models_own_pyramid() -> None:
    asked = {"tiles": None, "overlap": None, "merge": None, "no_whole": False, "scales": None, "flip": False}
    ranged = Pyramid(scales=(0.5, 1.0), ranges=((64, 1e5), (0, 128)))
    seen = looked_at(ranged, Namespace(**asked | {"flip": True}))
    assert isinstance(seen, Pyramid)
    assert (seen.scales, seen.flip, seen.ranges) == (ranged.scales, True, ranged.ranges)
    rescaled = looked_at(Pyramid(flip=True), Namespace(**asked | {"scales": "1,2"}))
    assert isinstance(rescaled, Pyramid)
    assert (rescaled.scales, rescaled.flip) == ((1.0, 2.0), True)


def test_a_resumed_run_keeps_its_tiles(torso: Command, checkpoint: Path, data: Path) -> None:
    done = torso("train", "--resume", checkpoint, "--data", data, "--tiles=64")
    assert done.code == 2
    assert "leave out --tiles" in done.sentence
