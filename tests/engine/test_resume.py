"""A run that was killed and resumed ends in the same bits as one that was left alone."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from training.small import data_set, in_child, recipe, run

from torso.data.files import load_json
from torso.engine import checkpoint_file as checkpoint
from torso.engine import train as engine
from torso.engine.checkpoint_file import KEY, load_checkpoint
from torso.engine.module import TrainModule
from torso.tasks import detection
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
        dropping = Dropping()
        dropping.out_specs = model.specs[-1][1]
        model.neck.append(dropping)
        return model

    engine.build_model = patched


def kill_in_step(number: signal.Signals, step: int) -> None:
    """The signal comes in the middle of a step: after its backward pass, before the weights move."""
    backward = TrainModule._backward

    def patched(self, window, now):
        loss = backward(self, window, now)
        if now == step:
            os.kill(os.getpid(), number)
        return loss

    TrainModule._backward = patched


def kill_in_evaluation(number: signal.Signals, epoch: int) -> None:
    collect = detection.collect
    calls = []

    def patched(*args, **settings):
        calls.append(0)
        found = collect(*args, **settings)
        if len(calls) == epoch + 1:
            os.kill(os.getpid(), number)
        return found

    detection.collect = patched


def kill_while_saving(number: signal.Signals, save: int) -> None:
    """The signal comes with half a checkpoint on the disk."""
    write = torch.save
    calls = []

    def patched(content, file, **settings):
        if KEY in content:
            calls.append(0)
            if len(calls) == save:
                file.write(b"half a checkpoint")
                file.flush()
                os.kill(os.getpid(), number)
                file.seek(0)  # SIGTERM is only noted: the checkpoint is finished
                file.truncate()
        write(content, file, **settings)

    checkpoint.torch.save = patched


Kill = Callable[[signal.Signals], None]
EPOCHS, EVERY = 2, 2
TERM, KILL = signal.SIGTERM, signal.SIGKILL


def places(windows: int) -> dict[str, Kill]:
    """Where a run of two epochs of so many windows, with a checkpoint every two steps, is ended."""
    return {
        "a step": partial(kill_in_step, step=windows + windows // 2),
        "the first step of an epoch": partial(kill_in_step, step=windows),
        "the last step of an epoch": partial(kill_in_step, step=windows - 1),
        "a save": partial(kill_while_saving, save=2),
        "an evaluation": partial(kill_in_evaluation, epoch=0),
        "the last evaluation": partial(kill_in_evaluation, epoch=EPOCHS - 1),
    }


ENDS = list(itertools.product(places(1), (TERM, KILL)))
RUNS = itertools.product((0, 2), (1, 2), (0.0, 0.9), (False, True))
# 5 and 12 have no common divisor: the first twelve rows meet every place with both signals
CASES = [(*settings, *ENDS[5 * i % len(ENDS)]) for i, settings in enumerate(RUNS)]


def case_name(case) -> str:
    workers, accumulate, ema, dropout, place, number = case
    marks = [f"workers={workers}", f"accumulate={accumulate}", *["ema"] * bool(ema), *["dropout"] * dropout]
    return f"{','.join(marks)},{number.name} in {place}"


def test_the_cases_meet_every_setting_and_every_end():
    assert {case[4:] for case in CASES} == set(ENDS)
    assert len({case[:4] for case in CASES}) == len(CASES) == 16


def start(folder: Path, data: Path, workers: int, accumulate: int, ema: float, dropout: bool, **how) -> int:
    """Train (resume: go on) in a process of its own; its exit status, minus the signal that killed it."""

    def work() -> None:
        if dropout:
            with_dropout()
        if "kill" in how:
            how["kill"]()
        settings = {"workers": workers, "checkpoint_every": EVERY, "log_every": 1}
        if "resume" in how:
            run(None, None, resume=how["resume"], **settings)
        else:
            run(recipe(batch_size=BATCH, accumulate=accumulate, ema=ema, epochs=EPOCHS), data, folder, **settings)

    log = folder.with_suffix(".log")
    code = os.waitstatus_to_exitcode(os.waitpid(in_child(work, log), 0)[1])
    assert code in (0, -KILL), log.read_text()
    return code


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The run that was left alone, one for all numbers of workers: it is the same with any."""
    folders: dict[tuple[object, ...], Path] = {}

    def get(*settings) -> Path:
        if settings not in folders:
            folder = tmp_path_factory.mktemp("whole") / "run"
            assert start(folder, data, 0, *settings) == 0
            folders[settings] = folder
        return folders[settings]

    return get


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_resumed_run_ends_in_the_same_bits(data, whole, tmp_path, case):
    *settings, place, number = case
    windows = -(-IMAGES // (BATCH * settings[1]))
    cut = tmp_path / "cut"
    ended = start(cut, data, *settings, kill=partial(places(windows)[place], number))
    assert ended == (-KILL if number == KILL else 0)
    last = cut / "checkpoints" / "last.ckpt"
    steps = load_checkpoint(last)["global_step"]
    assert 0 < steps < EPOCHS * windows or place == "the last evaluation"
    assert start(cut, data, *settings, resume=last) == 0
    assert_same_run(whole(*settings[1:]), cut)


def assert_same_run(whole: Path, cut: Path) -> None:
    ours, theirs = (load_checkpoint(d / "checkpoints" / "last.ckpt") for d in (cut, whole))
    for key in ("state_dict", "optimizer_states", KEY, "global_step"):
        assert_equal(ours[key], theirs[key], key)
    assert load_json(cut / "history.json") == load_json(whole / "history.json")
    assert (cut / "predictions.json").read_bytes() == (whole / "predictions.json").read_bytes()
    assert_equal(read(cut / "model.safetensors").state, read(whole / "model.safetensors").state, "weights")
    rows = [without_speed(d / "metrics.csv") for d in (cut, whole)]
    assert rows[0] == rows[1]
    assert not list(cut.rglob("*.tmp"))


def without_speed(path: Path) -> list[dict[str, str]]:
    from torso.engine.metrics import read_metrics

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
