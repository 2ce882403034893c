"""Every suppression at `eval` and `predict`, by its name; what wants variances says so before any image is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.commands import Command

from torso.parts import Part, names
from torso.weights import load, read, save


@pytest.fixture(scope="module")
def uncertain(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """The checkpoint's model with an uncertainty branch."""
    bundle = read(checkpoint)
    model = Part.from_dict(bundle.model).override("head.uncertainty", "true")
    built = model.build()
    built.load_state_dict(load(checkpoint).state_dict(), strict=False)
    built.names = bundle.names
    path = tmp_path_factory.mktemp("uncertain") / "model.safetensors"
    save(path, built, model, category_ids=(1, 3, 5))
    return path


@pytest.mark.parametrize("name", names("suppression"))
def test_eval_and_predict_take_it_by_name(
    torso: Command, data: Path, uncertain: Path, tmp_path: Path, name: str
) -> None:
    flags = (f"--suppression={name.replace('_', '-')}", "--suppression.max_detections=5")
    shown = json.loads(torso("eval", uncertain, "--data", data, "--json", *flags).out)
    assert 0 < shown["detections"] <= 5 * 4
    assert torso("predict", uncertain, data, "--out", tmp_path / "out", *flags).code == 0


def test_what_wants_variances_says_where_they_come_from(torso: Command, data: Path, checkpoint: Path) -> None:
    done = torso("eval", checkpoint, "--data", data, "--suppression", "softer_nms")
    assert done.code == 2
    assert "--head.uncertainty=true --box-loss kl" in done.sentence


def test_help_names_them_all(torso: Command) -> None:
    shown = torso("eval", "--help").out
    assert all(name in shown for name in names("suppression"))
