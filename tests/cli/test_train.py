"""`torso train`: from a folder to a run, a report and the next commands; and every refusal before anything is made."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.commands import QUICK, TINY, Command
from data.builders import CLASSES, write_coco

from torso.weights import load, read


def test_the_way_through(torso: Command, data: Path, tmp_path: Path) -> None:
    """Train, evaluate, predict, go on, start anew: every command is the one that the command before it printed."""
    run = tmp_path / "run"
    done = torso("train", "fcos", "--data", data, "--out", run, *TINY, *QUICK)
    assert done.code == 0
    assert done.err == ""
    assert "Training may start." in done.out
    weights = run / "model.safetensors"
    assert f"torso eval {weights} --data {data}" in done.out
    assert str(run / "report" / "index.html") in done.out
    page = (run / "report" / "index.html").read_text()
    assert "recipes.recipe" in page
    assert (run / "predictions.json").is_file()
    bundle = read(weights)
    assert bundle.names == CLASSES
    assert bundle.category_ids == (1, 3, 5)
    assert load(weights).names == CLASSES
    assert torso("eval", run, "--data", data).code == 0
    assert torso("predict", weights, data / "images", "--out", tmp_path / "found").code == 0
    assert torso("show", run / "recipe.yaml", "--yaml").out == (run / "recipe.yaml").read_text()
    resumed = torso("train", "--resume", run)
    assert resumed.code == 0, "a run that is done has nothing left to do"
    again = torso("train", run / "recipe.yaml", "--data", data, "--init", weights, "--out", run, *QUICK)
    assert again.code == 0
    assert (tmp_path / "run-2" / "model.safetensors").is_file(), "a new run never writes into an old one's folder"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "a model is missing"),
        (["fcos"], "--data DIR is missing"),
        (["fcos", "--data", "/nowhere"], "--data /nowhere: no such folder"),
        (["fcoss", "--data", "DATA"], "did you mean 'fcos'"),
        (["fcos", "--data", "DATA", "--epoch", "3"], "unknown flag --epoch; did you mean '--epochs'"),
        (["fcos", "--data", "DATA", "--lr", "fast"], "--lr: expected a number above 0, got 'fast'"),
        (["fcos", "--data", "DATA", "--init", "/no/file"], "--init /no/file: no such file"),
        (["fcos", "--data", "DATA", "--neck.finest=16"], "start the neck at stride 8"),
        (["centernet_points", "--data", "DATA", "--neck.finest=8"], "stride 4"),
        (["--resume", "/no/run"], "--resume /no/run: no checkpoint"),
        (["--resume", "CKPT", "--lr", "1"], "leave out --lr"),
        (["--resume", "CKPT", "--neck.channels=3"], "leave out --neck.channels"),
        (["--resume", "CKPT", "--out", "x"], "leave out --init and --out"),
        (["wrong.yaml", "--data", "DATA"], "no file at wrong.yaml"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_refused_before_anything_is_made(
    torso: Command, data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    flags: list[str], said: str,
) -> None:  # fmt: skip
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    named = {"DATA": str(data), "CKPT": str(checkpoint)}
    done = torso("train", *(named.get(flag, flag) for flag in flags))
    assert done.code == 2
    assert said in done.sentence
    assert list((tmp_path / "work").iterdir()) == []


def test_a_wrong_checkpoint_to_start_from(torso: Command, data: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.ckpt"
    wrong.write_bytes(b"nothing")
    for flags in (("fcos", "--data", data, "--init", wrong, *TINY, *QUICK), ("--resume", wrong)):
        done = torso("train", *flags)
        assert done.code == 1
        assert "wrong.ckpt" in done.sentence
        assert "cannot be read" in done.sentence


def test_a_corrupt_image_is_dropped_and_said(torso: Command, tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set", n_images=6)
    write_coco(root, n_images=2, seed=1, split="val")
    (root / "images" / "image_0_000.png").write_bytes(b"no image")
    done = torso("train", "fcos", "--data", root, "--out", tmp_path / "run", *TINY, *QUICK)
    assert done.code == 0
    assert "image_0_000.png: not an image" in done.out
    assert "5 images to learn from" in done.out


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    """In a process of its own, as a scheduler would end it."""
    run = tmp_path / "run"
    flags = [*TINY, *QUICK, "--epochs=500", "--eval-every=500", "--checkpoint-every=1"]
    command = [sys.executable, "-m", "torso", "train", "fcos", "--data", str(data), "--out", str(run), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "Traceback" not in err
    last = run / "checkpoints" / "last.ckpt"
    assert f"torso train --resume {last}" in out
    assert json.loads((run / "timing.json").read_text())["train"] >= 0
