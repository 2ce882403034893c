"""A task and a query head from outside torso, through everything that a run of torso's own goes through."""

from __future__ import annotations

import json
import os
import signal
import socket
from functools import partial
from pathlib import Path

import pytest
import torch
from engine.test_resume import assert_same_run, kill_in_step
from pytorch_lightning.utilities import rank_zero_only
from tasks.toys import TOYS, Toy, classifier_recipe, query_recipe
from training.small import in_child, run

import torso
from torso.cli.main import main
from torso.data.files import load_json
from torso.data.sampler import EpochSampler
from torso.engine.counting import Counting
from torso.engine.metrics import read_metrics
from torso.engine.step import TrainStep, backward_window
from torso.engine.task import Feed, moved, task_of
from torso.engine.train import build_model
from torso.engine.unused_parameters import freeze_unused
from torso.parts import Part
from torso.training.recipes.recipe import Recipe, with_classes
from torso.weights import WeightsError, save
from torso.yaml_text import to_yaml

FLAGS = ["--workers=0", "--accelerator=cpu", "--log-every=1"]


@pytest.fixture(params=TOYS)
def toy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """One of them, permitted where a name alone comes: in a checkpoint, a recipe, on the command line."""
    monkeypatch.setenv("TORSO_ALLOW", "tasks")
    return TOYS[request.param]


def test_it_learns_is_evaluated_saved_and_loaded(toy, tmp_path):
    result = run(toy.recipe(epochs=12, ema=0.5), toy.data(tmp_path / "set"), tmp_path / "run", log_every=5)
    rows = [r for r in read_metrics(result.run_dir / "metrics.csv") if "train/loss" in r]
    assert float(rows[-1]["train/loss"]) < 0.8 * float(rows[0]["train/loss"])
    history = load_json(result.run_dir / "history.json")
    assert result.best == max(row["scores"][toy.headline] for row in history)
    assert result.scores.to_dict()[toy.headline] == history[-1]["scores"][toy.headline]
    assert any(f"val/{toy.headline}" in row for row in read_metrics(result.run_dir / "metrics.csv"))
    loaded = torso.load(result.weights)
    again = task_of(type(loaded)).open(tmp_path / "set", toy.recipe(), holdout=0.2, limit=None)
    assert loaded.names == task_of(type(loaded)).class_names(again.train)
    assert not loaded.training


def test_the_classifier_tells_red_from_blue(tmp_path, monkeypatch):
    monkeypatch.setenv("TORSO_ALLOW", "tasks")
    result = run(classifier_recipe(epochs=20, lr=1e-2), TOYS["classifier"].data(tmp_path / "set"), tmp_path / "run")
    assert result.scores.top1 == 1.0
    assert (result.scores.images, result.best) == (6, 1.0)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("place", ["a step", "an evaluation"])
def test_killed_and_resumed_it_ends_in_the_same_bits(toy, tmp_path, accumulate, place):
    recipe, data = toy.recipe(accumulate=accumulate, ema=0.9), toy.data(tmp_path / "set")
    settings = {"log_every": 1, "checkpoint_every": 1}
    whole = run(recipe, data, tmp_path / "whole", **settings)

    def killed() -> None:
        if place == "a step":
            kill_in_step(signal.SIGKILL, step=3)
        else:
            kill_in_write(signal.SIGKILL)
        run(recipe, data, tmp_path / "cut", **settings)

    child = in_child(killed, tmp_path / "log")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == -signal.SIGKILL, (tmp_path / "log").read_text()
    run(None, None, resume=tmp_path / "cut" / "checkpoints" / "last.ckpt", **settings)
    assert_same_run(whole.run_dir, tmp_path / "cut")


def test_interrupted_it_says_so_and_goes_on(toy, tmp_path):
    recipe, data = toy.recipe(), toy.data(tmp_path / "set")
    whole = run(recipe, data, tmp_path / "whole", log_every=1)

    def stopped() -> None:
        kill_in_step(signal.SIGTERM, step=2)
        assert run(recipe, data, tmp_path / "cut", log_every=1).interrupted

    child = in_child(stopped, tmp_path / "log")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, (tmp_path / "log").read_text()
    run(None, None, resume=tmp_path / "cut" / "checkpoints" / "last.ckpt", log_every=1)
    assert_same_run(whole.run_dir, tmp_path / "cut")


def kill_in_write(number: signal.Signals) -> None:
    """The signal comes after the first evaluation, before its scores are written."""
    from torso.engine import validation

    def patched(*args: object) -> None:
        os.kill(os.getpid(), number)

    validation.write_json = patched


def test_two_micro_batches_are_the_large_batch(toy, tmp_path):
    step, (a, b), whole = in_double(toy, tmp_path)
    wanted, gradient = descended(step, [whole])
    for counting in (None, Counting(step)):
        loss, ours = descended(step, [a, b], counting)
        assert loss.loss.item() == pytest.approx(wanted.loss.item(), rel=1e-6)
        assert loss.counts.tolist() == wanted.counts.tolist()
        assert ours.keys() == gradient.keys()
        for name, value in ours.items():
            torch.testing.assert_close(value, gradient[name], rtol=1e-6, atol=1e-9, msg=name)


def in_double(toy: Toy, tmp_path: Path):
    """A step in float64, two micro-batches of two and the batch of all four."""
    part = with_dropout_off(toy.recipe(accumulate=2))
    task = task_of(part.get("model"))
    train = task.open(toy.data(tmp_path / "set"), part, holdout=0.2, limit=None).train
    part = with_classes(part, len(task.class_names(train)))
    model = build_model(part, task.class_names(train)).train()
    step = TrainStep(model, part.build().criterion.build())
    freeze_unused(step, task.blank(model))

    def window(batch_size: int, accumulate: int):
        sampler = EpochSampler(size=len(train), batch_size=batch_size, accumulate=accumulate)
        loader = task.loader(train, model, sampler, Feed(part.build(), False, 9, 0))
        return [(wide(m.images), wide(m.targets)) for m in next(iter(loader))]

    batches = window(2, 2), window(4, 1)[0]
    step.double()
    return step, *batches


def with_dropout_off(part):
    model = part.get("model")
    return part.with_args(model=model.with_args(dropout=0.0)) if model.accepts("dropout") else part


def wide(value):
    """Floating tensors in float64."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    return type(value)(*map(wide, value)) if isinstance(value, tuple) else value


def descended(step: TrainStep, window, counting=None):
    step.zero_grad(set_to_none=True)
    loss = backward_window(step, step, window, extra=torch.zeros(0), counts_of=counting)
    return loss, {n: p.grad.clone() for n, p in step.named_parameters() if p.grad is not None}


def test_a_head_without_priors_accumulates(tmp_path):
    """Counting asks for the sizes of maps only where the criterion reads them."""
    result = run(query_recipe(accumulate=2), TOYS["queries"].data(tmp_path / "set"), tmp_path / "run")
    assert result.steps == 6


def test_what_cannot_be_compiled_is_refused_by_name(tmp_path):
    with pytest.raises(
        ValueError, match=r'HungarianCriterion cannot be compiled; compile "yes" .* take compile "auto"'
    ):
        run(query_recipe(compile="yes"), TOYS["queries"].data(tmp_path / "set"), tmp_path / "run")


def test_two_ranks_learn_what_one_learns_with_the_large_batch(toy, tmp_path):
    """Lightning's own processes would import everything anew; these are forked and meet as torchrun's do."""
    data = toy.data(tmp_path / "set")
    plain = {"optimizer": "sgd", "lr": 0.02, "epochs": 1}  # Adam makes a step of a rounding error
    small, large = (with_dropout_off(toy.recipe(batch_size=b, **plain)) for b in (2, 4))
    one = run(large, data, tmp_path / "one", log_every=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [in_child(partial(as_rank, r, port, small, data, tmp_path), tmp_path / f"log{r}") for r in (0, 1)]
    for r, child in enumerate(children):
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, (tmp_path / f"log{r}").read_text()
    ours = torso.load(tmp_path / "two" / "model.safetensors").state_dict()
    for name, value in torso.load(one.weights).state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6, msg=name)
    scores = [load_json(d / "history.json")[-1]["scores"][toy.headline] for d in (one.run_dir, tmp_path / "two")]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def as_rank(rank: int, port: int, recipe: Part[Recipe], data: Path, tmp_path: Path) -> None:
    found = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in found.items()}, TORCHELASTIC_RUN_ID="toys")
    rank_zero_only.rank = rank
    result = run(recipe, data, tmp_path / "two", devices=2, log_every=1)
    assert result.scores is not None


def test_the_verbs_know_it(toy, tmp_path, capsys):
    data, file, out = toy.data(tmp_path / "set"), tmp_path / "toy.yaml", tmp_path / "run"
    file.write_text(to_yaml(toy.recipe()))
    assert main(["show", str(file)]) == 0
    assert toy.shown in capsys.readouterr().out
    assert main(["train", str(file), "--data", str(data), "--out", str(out), *FLAGS]) == 0
    said = capsys.readouterr().out
    assert f"best {toy.headline} on val" in said
    assert (out / "report" / "index.html").is_file()
    assert main(["eval", str(out), "--data", str(data), "--json"]) == 0
    best = max(row["scores"][toy.headline] for row in load_json(out / "history.json"))
    assert json.loads(capsys.readouterr().out)[toy.headline] == pytest.approx(best, abs=1e-6)
    image = next(p for p in sorted(data.rglob("*")) if p.suffix in (".png", ".jpg"))
    assert main(["predict", str(out), str(image), "--out", str(tmp_path / "found"), "--score=0"]) == 0
    rows = load_json(tmp_path / "found" / "results.json")
    assert rows
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert len(list((tmp_path / "found").glob("*.jpg"))) == 1


def test_flags_of_another_task_are_refused_in_a_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORSO_ALLOW", "tasks")
    data = TOYS["classifier"].data(tmp_path / "set")
    weights = run(classifier_recipe(epochs=1), data, tmp_path / "run").weights
    assert main(["eval", str(weights), "--data", str(data), "--voc"]) == 1
    assert "--voc is of another task than classification" in capsys.readouterr().err
    assert main(["eval", str(weights), "--data", str(data), "--suppression=nms"]) == 2
    assert "a Classifier suppresses nothing" in capsys.readouterr().err


def test_a_file_of_another_number_of_names_is_refused(tmp_path):
    part = classifier_recipe()
    with pytest.raises(WeightsError, match="the model has 2 classes, but 3 class names came"):
        save(tmp_path / "x.safetensors", part.get("model").build(), part, names=("a", "b", "c"))


def test_batches_of_any_tuple_move():
    there = moved((torch.zeros(1), (torch.ones(2), None, "text")), torch.device("meta"))
    assert there[0].device.type == there[1][0].device.type == "meta"
    assert there[1][1:] == (None, "text")
