"""Training in 16-bit floats: a step that overflows does not happen, the scale adapts, and a resumed run keeps it."""

from __future__ import annotations

import math
import os

import pytest
import torch
from engine.test_resume import KILL, assert_same_run, kill_in_step
from training.small import data_set, in_child, recipe, run

from torso.engine import optim as scaler
from torso.engine.checkpoint_file import KEY, load_checkpoint
from torso.engine.metrics import read_metrics
from torso.engine.module import TrainModule
from torso.tasks import detection

DEVICES = ["cpu", pytest.param("gpu", marks=[
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
])]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("set"), 8, 3)


def half(**changes):
    return recipe(precision="16", compile="no", ema=0.5, **changes)


@pytest.mark.parametrize("accelerator", DEVICES)
def test_an_overflow_skips_the_step_and_the_scale_adapts(data, tmp_path, monkeypatch, accelerator):
    """From a scale that no gradient survives, down until one does, then up again after every two good steps."""
    monkeypatch.setattr(scaler, "_FIRST", 2.0**28)
    monkeypatch.setattr(scaler, "_INTERVAL", 2)
    step, seen = TrainModule.training_step, []

    def watched(self, window, batch_idx):
        before = {n: v.clone() for n, v in self.step.state_dict().items() if "num_batches" not in n}
        average = {n: v.clone() for n, v in self.ema.average.items() if "num_batches" not in n}
        scale = float(self._scale.scale)
        step(self, window, batch_idx)
        now = self.step.state_dict()
        stayed = all(torch.equal(v, now[n]) for n, v in before.items())
        average_stayed = all(torch.equal(v, self.ema.average[n]) for n, v in average.items())
        seen.append((stayed, average_stayed, float(self._scale.scale) / scale))

    monkeypatch.setattr(TrainModule, "training_step", watched)
    done = run(half(steps=24), data, tmp_path / "run", accelerator=accelerator, log_every=1, devices=1)
    assert done.steps == 24
    skipped = [stayed for stayed, _, _ in seen]
    assert skipped[0]
    assert not all(skipped)
    for stayed, average_stayed, factor in seen:
        assert average_stayed == stayed
        assert factor == 0.5 if stayed else factor in (1.0, 2.0)
    assert 2.0 in [factor for _, _, factor in seen]
    rows = [row for row in read_metrics(done.run_dir / "metrics.csv") if "train/loss" in row]
    assert all(math.isfinite(float(row["train/loss"])) for row in rows)
    norms = [float(row["train/gradient_norm"]) for row in rows if "train/gradient_norm" in row]
    if accelerator == "cpu":
        assert len(norms) == skipped.count(False)
    assert 0 < len(norms) <= skipped.count(False)  # on a GPU numbers arrive late, and two steps may share a row
    assert all(math.isfinite(norm) for norm in norms)


def test_a_resumed_run_goes_on_with_the_scale_it_had(data, tmp_path, monkeypatch):
    monkeypatch.setattr(scaler, "_FIRST", 2.0**24)
    settings = {"checkpoint_every": 1, "log_every": 1}
    whole = run(half(), data, tmp_path / "whole", **settings)
    folder = tmp_path / "cut"

    def killed() -> None:
        kill_in_step(KILL, 5)
        run(half(), data, folder, **settings)

    child = in_child(killed, tmp_path / "log")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -KILL
    last = folder / "checkpoints" / "last.ckpt"
    kept = load_checkpoint(last)[KEY]["loss_scale"]
    assert float(kept["scale"]) != scaler._FIRST
    run(None, None, resume=last, **settings)
    assert_same_run(whole.run_dir, folder)


def test_what_is_evaluated_is_what_was_trained(data, tmp_path, monkeypatch):
    collect, asked = detection.collect, []

    def watched(model, truth, settings):
        asked.append(settings.precision)
        return collect(model, truth, settings)

    monkeypatch.setattr(detection, "collect", watched)
    for precision in ("16", "32", "bf16"):
        run(recipe(precision=precision, steps=1), data, tmp_path / precision)
    assert asked == ["16", "32", "bf16"]
