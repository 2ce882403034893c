"""A number that is not finite never reaches weights, statistics or average, and is reported with term and images."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from training.small import data_set, recipe, run

from torso.data.splits import open_splits
from torso.engine import module as task_module
from torso.engine.checkpoint_file import load_checkpoint
from torso.engine.metrics import Report
from torso.engine.module import TrainModule
from torso.engine.nonfinite import NonFinite
from torso.tasks.detection import DetectionTask

BAD_STEP = 5


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    whole = open_splits(data_set(tmp_path_factory.mktemp("set"), 8, 2))
    return whole.train, None


def poisoned(what: str):
    """A training_step that spoils its images or its gradient at one step, and notes what that step has changed."""
    original = TrainModule.training_step
    seen = {}

    def step(self, window, batch_idx):
        if self.trainer.global_step != BAD_STEP:
            return original(self, window, batch_idx)
        images, targets = window.micro[-1]
        if what == "image":
            images = images._replace(pixels=images.pixels.float().index_fill(0, torch.tensor([0]), math.nan))
        window = window._replace(micro=[*window.micro[:-1], (images, targets)])
        before = snapshot(self)
        seen["names"] = sorted({self.train_set.name(row) for row in window.rows})
        if what == "gradient":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(task_module, "backward_window", bad_gradient(task_module.backward_window))
                return finish(self, window, batch_idx, before)
        return finish(self, window, batch_idx, before)

    def finish(self, window, batch_idx, before):
        try:
            return original(self, window, batch_idx)
        finally:
            seen["same"] = [name for name, value in snapshot(self).items() if not torch.equal(value, before[name])]

    return step, seen


def bad_gradient(backward_window):
    def spoiled(step, *args, **settings):
        loss = backward_window(step, *args, **settings)
        gradient = next(p for p in step.parameters() if p.grad is not None).grad
        gradient[(0,) * gradient.dim()] = math.inf
        return loss

    return spoiled


def names_in(train):
    return partial(DetectionTask().describe, train)


def snapshot(task: TrainModule) -> dict[str, torch.Tensor]:
    values = {f"model.{k}": v.clone() for k, v in task.model.state_dict().items()}
    if task.ema is not None:
        values |= {f"ema.{k}": v.clone() for k, v in task.ema.average.items()}
    for i, state in enumerate(task.trainer.optimizers[0].state.values()):
        values |= {f"optimizer.{i}.{k}": v.clone() for k, v in state.items()}
    return values


@pytest.mark.parametrize(
    ("what", "accumulate", "optimizer"), [("image", 1, "sgd"), ("image", 2, "adamw"), ("gradient", 1, "adamw")]
)
def test_nothing_bad_is_learned_and_the_report_names_it(splits, tmp_path, monkeypatch, what, accumulate, optimizer):
    step, seen = poisoned(what)
    monkeypatch.setattr(TrainModule, "training_step", step)
    part = recipe(optimizer=optimizer, accumulate=accumulate, ema=0.9, epochs=6, lr=1e-3)
    with pytest.raises(NonFinite) as error:
        run(part, splits, tmp_path / "run", checkpoint_every=1)
    assert seen["same"] == []
    said = str(error.value)
    assert f"step {BAD_STEP}: " in said
    assert all(name in said for name in seen["names"])
    assert ("the cls and box and quality loss was" if what == "image" else "the gradient was") in said
    kept = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert kept["global_step"] == BAD_STEP
    assert all(v.isfinite().all() for v in kept["state_dict"].values())


def test_a_weight_that_is_not_finite_is_reported_too(splits, tmp_path, monkeypatch):
    original = TrainModule.on_train_start

    def spoiled(self):
        original(self)
        with torch.no_grad():
            self.model.head.branches[0].box_out.weight[0, 0] = math.nan

    monkeypatch.setattr(TrainModule, "on_train_start", spoiled)
    with pytest.raises(NonFinite, match="step 0: the box loss was not finite on these images"):
        run(recipe(), splits, tmp_path / "run")


def test_a_box_that_is_not_finite_never_comes_so_far(splits):
    train = splits[0]
    boxes = train.boxes.copy()
    boxes[0, 2] = np.nan
    from dataclasses import replace

    from torso.data.clean import clean

    kept, findings = clean(replace(train, boxes=boxes))
    assert len(kept.boxes) == len(boxes) - 1
    assert [f.kind for f in findings if f.action == "dropped"] == ["not_finite"]


def report(**changes):
    base = Report(7, ("cls", "box"), (0, 1, 1), [1.0, 1.0], [0.5, math.nan], [0.5, math.nan], [], 1.0, True)
    return base._replace(**changes)


def test_another_ranks_bad_loss_is_said_to_be_there(splits):
    from torso.engine.nonfinite import check_finite

    with pytest.raises(NonFinite, match="the box loss was not finite on another rank"):
        check_finite(report(own=[0.5, 0.5]), names_in(splits[0]))


def test_an_overflow_of_a_scaled_gradient_is_no_error_but_its_loss_would_be(splits):
    from torso.engine.nonfinite import check_finite

    check_finite(report(totals=[0.5, 0.5], own=[0.5, 0.5]), names_in(splits[0]), overflow_is_normal=True)
    with pytest.raises(NonFinite, match="box"):
        check_finite(report(), names_in(splits[0]), overflow_is_normal=True)
    check_finite(report(skipped=False), names_in(splits[0]))


def test_many_images_are_not_all_named(splits):
    from torso.engine.nonfinite import check_finite

    with pytest.raises(NonFinite) as error:
        check_finite(report(rows=tuple(range(8)) * 3), names_in(splits[0]))
    assert str(error.value).count(".png") == 8
    assert Path(splits[0].name(0)).name in str(error.value)
