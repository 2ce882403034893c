"""A run that was killed and resumed ends in the same bits as one that was left alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from training.small import data_set, in_child, recipe, run

from torso.training import checkpoint, engine, judge
from torso.training.checkpoint import KEY, load_checkpoint
from torso.training.run import read_json
from torso.training.task import DetectionTask
from torso.weights import read

IMAGES, BATCH = 10, 2


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("set"), IMAGES, 3)


class Dropping(nn.Module):
    """A neck that drops: draws from the step's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.2)

    def forward(self, features):
        return [self.drop(f) for f in features]


def with_dropout() -> None:
    """From here on (in this process) every model that the engine builds has dropout before its head."""
    build = engine.build_model

    def patched(*args, **settings):
        model = build(*args, **settings)
        model.neck.append(Dropping())
        return model

    engine.build_model = patched


def kill_in_step(number: signal.Signals, step: int) -> None:
    """The signal comes in the middle of a step: after its backward pass, before the weights move."""
    backward = DetectionTask._backward

    def patched(self, window, now):
        loss = backward(self, window, now)
        if now == step:
            os.kill(os.getpid(), number)
        return loss

    DetectionTask._backward = patched


def kill_in_evaluation(number: signal.Signals, epoch: int) -> None:
    collect = judge.collect
    calls = []

    def patched(*args, **settings):
        calls.append(0)
        found = collect(*args, **settings)
        if len(calls) == epoch + 1:
            os.kill(os.getpid(), number)
        return found

    judge.collect = patched


def kill_while_saving(save: int) -> None:
    """SIGKILL with half a checkpoint on the disk."""
    write = torch.save
    calls = []

    def patched(content, file, **settings):
        if KEY in content:
            calls.append(0)
            if len(calls) == save:
                file.write(b"half a checkpoint")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        write(content, file, **settings)

    checkpoint.torch.save = patched


TERM, KILL = signal.SIGTERM, signal.SIGKILL
CASES = {
    "killed in a step": (0, 1, 0.0, False, 2, partial(kill_in_step, KILL, 3)),
    "terminated in a step": (2, 2, 0.9, True, None, partial(kill_in_step, TERM, 4)),
    "killed in the first step of an epoch": (2, 1, 0.9, False, 2, partial(kill_in_step, KILL, 5)),
    "terminated in an epoch's last step": (0, 2, 0.0, True, None, partial(kill_in_step, TERM, 2)),
    "killed while saving": (0, 1, 0.9, True, 2, partial(kill_while_saving, 2)),
    "killed in an evaluation": (2, 2, 0.0, False, 2, partial(kill_in_evaluation, KILL, 0)),
    "terminated in the last evaluation": (0, 1, 0.9, False, None, partial(kill_in_evaluation, TERM, 1)),
    "killed in the last evaluation": (0, 2, 0.9, True, 1, partial(kill_in_evaluation, KILL, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_resumed_run_ends_in_the_same_bits(data, tmp_path, case):
    workers, accumulate, ema, dropout, every, kill = CASES[case]
    part = recipe(batch_size=BATCH, accumulate=accumulate, ema=ema)
    settings = {"workers": workers, "checkpoint_every": every, "log_every": 1}

    def work(name: str, disturb: Callable[[], None] | None, resume: Path | None) -> None:
        if dropout:
            with_dropout()
        if disturb:
            disturb()
        if resume:
            run(None, None, resume=resume, **settings)
        else:
            run(part, data, tmp_path / name, **settings)

    whole = finished(work, tmp_path, "whole", None, None)
    cut = tmp_path / "cut"
    status = finished(work, tmp_path, "cut", kill, None)
    assert status == (-KILL if kill.args[:1] != (TERM,) else 0)
    last = cut / "checkpoints" / "last.ckpt"
    steps = load_checkpoint(last)["global_step"]
    windows = -(-IMAGES // (BATCH * accumulate))
    assert 0 < steps < 2 * windows or "last evaluation" in case
    assert finished(work, tmp_path, "cut", None, last) == whole == 0
    assert_same_run(tmp_path / "whole", cut)


def finished(work, tmp_path: Path, name: str, disturb, resume) -> int:
    """Exit status of the child, minus the signal that killed it."""
    log = tmp_path / f"{name}.log"
    child = in_child(lambda: work(name, disturb, resume), log)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -KILL), log.read_text()
    return code


def assert_same_run(whole: Path, cut: Path) -> None:
    ours, theirs = (load_checkpoint(d / "checkpoints" / "last.ckpt") for d in (cut, whole))
    for key in ("state_dict", "optimizer_states", KEY, "global_step"):
        assert_equal(ours[key], theirs[key], key)
    assert read_json(cut / "history.json") == read_json(whole / "history.json")
    assert (cut / "predictions.json").read_bytes() == (whole / "predictions.json").read_bytes()
    assert_equal(read(cut / "model.safetensors").state, read(whole / "model.safetensors").state, "weights")
    rows = [without_speed(d / "metrics.csv") for d in (cut, whole)]
    assert rows[0] == rows[1]
    assert not list(cut.rglob("*.tmp"))


def without_speed(path: Path) -> list[dict[str, str]]:
    from torso.training.metrics import read_metrics

    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in read_metrics(path)]


def assert_equal(ours, theirs, where: str) -> None:
    assert type(ours) is type(theirs), where
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_equal(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(a, b, f"{where}.{i}")
    else:
        assert ours == theirs, where
