"""What a run leaves behind, what it refuses, and that it is the same however it is watched."""

from __future__ import annotations

import json
import math

import pytest
import torch
import yaml
from training.small import data_set, recipe, run

import torso
from torso.data.files import load_json
from torso.data.splits import open_splits
from torso.data.windows import make_dataset
from torso.engine import module
from torso.engine.checkpoint_file import KEY, load_checkpoint
from torso.engine.checkpointing import CheckpointCallback
from torso.engine.metrics import read_metrics
from torso.evaluation.run import evaluate
from torso.parts import PartError
from torso.tasks import detection
from torso.yaml_text import from_yaml


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("set"), 8, 4)


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """One run of three epochs, with an average, evaluated after the second and the last."""
    folder = tmp_path_factory.mktemp("runs") / "fcos"
    return run(recipe(epochs=3, ema=0.5), data, folder, eval_every=2, log_every=2)


def test_the_folder_holds_what_it_says(done):
    present = {p.name for p in done.run_dir.rglob("*") if p.is_file() and "tfevents" not in p.name}
    assert present == {
        "recipe.yaml", "last.ckpt", "last.previous.ckpt", "best.ckpt", "model.safetensors", "metrics.csv",
        "history.json", "predictions.json", "timing.json",
    }  # fmt: skip
    assert done.steps == 12
    assert not done.interrupted
    assert done.seconds["train"] + done.seconds["evaluate"] <= done.seconds["total"]
    assert load_json(done.run_dir / "timing.json")["images_per_second"] == done.images_per_second > 0


def test_the_recipe_in_the_folder_is_the_one_in_the_checkpoint(done):
    kept = load_checkpoint(done.resume_from)[KEY]
    assert from_yaml(done.run_dir / "recipe.yaml").to_dict() == kept["recipe"]
    assert yaml.safe_load((done.run_dir / "recipe.yaml").read_text())["model"]["head"]["num_classes"] == 3
    assert kept["names"] == ["red", "green", "blue"]
    assert kept["category_ids"] == [1, 3, 5]


def test_metrics_have_a_row_an_interval_and_an_evaluation(done):
    rows = read_metrics(done.run_dir / "metrics.csv")
    trained = [r for r in rows if "train/loss" in r]
    evaluated = [r for r in rows if "val/AP" in r]
    assert [int(r["step"]) for r in trained] == [2, 4, 6, 8, 10, 12]
    assert [(int(r["step"]), int(r["epoch"])) for r in evaluated] == [(8, 1), (12, 2)]
    parts = sum(float(trained[0][f"train/{name}_loss"]) for name in ("cls", "box", "quality"))
    assert float(trained[0]["train/loss"]) == pytest.approx(parts, rel=1e-4)
    assert all(math.isfinite(float(r["train/gradient_norm"])) for r in trained)
    assert float(trained[0]["lr"]) < float(trained[1]["lr"])
    assert [row["epoch"] for row in load_json(done.run_dir / "history.json")] == [1, 2]


def test_the_published_weights_are_the_average_and_give_the_scores_that_were_reported(done, data):
    checkpoint = load_checkpoint(done.run_dir / "checkpoints" / "best.ckpt")
    model = torso.load(done.weights)
    for name, value in model.state_dict().items():
        assert torch.equal(value, checkpoint[KEY]["ema"][name]), name
    own = checkpoint["state_dict"]["model.head.branches.0.cls_out.weight"]
    assert not torch.equal(own, model.state_dict()["head.branches.0.cls_out.weight"])
    val = open_splits(data).val
    assert done.best == evaluate(model, val).AP
    results = json.loads((done.run_dir / "predictions.json").read_text())
    assert {r["image_id"] for r in results} <= set(val.image_ids.tolist())
    assert model.names == ("red", "green", "blue")


def test_a_second_run_takes_the_next_free_name(done, data):
    again = run(recipe(steps=1), data, done.run_dir, limit=2)
    assert again.run_dir == done.run_dir.with_name("fcos-2")
    assert again.steps == 1


def test_the_same_seed_gives_the_same_run_and_another_seed_another(data, tmp_path):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        result = run(recipe(steps=3, seed=seed), data, tmp_path / name, log_every=1 if name == "a" else 7)
        weights.append(load_checkpoint(result.resume_from)["state_dict"])
    same = [all(torch.equal(v, other[k]) for k, v in weights[0].items()) for other in weights[1:]]
    assert same == [True, False]


def test_resuming_a_finished_run_changes_nothing(done):
    before = done.weights.read_bytes()
    again = run(None, None, resume=done.resume_from)
    assert again.steps == done.steps
    assert again.best == done.best
    assert done.weights.read_bytes() == before


def test_resuming_with_another_recipe_or_other_data_is_refused(done, data, tmp_path):
    with pytest.raises(ValueError, match="another recipe"):
        run(recipe(epochs=3, ema=0.5, lr=1.0), None, resume=done.resume_from)
    with pytest.raises(ValueError, match="made with 8 images, here are 6"):
        run(None, data_set(tmp_path / "other", 6), resume=done.resume_from)
    with pytest.raises(ValueError, match="no such file"):
        run(None, None, resume=tmp_path / "none.ckpt")


def test_init_takes_what_fits(done, data, tmp_path, capsys):
    result = run(recipe("retinanet", steps=1, lr=1e-9), data, tmp_path / "run", init=done.weights, progress=True)
    assert "kept" in capsys.readouterr().out
    ours, theirs = (torso.load(r.run_dir / "model.safetensors").state_dict() for r in (result, done))
    name = "backbone.body.conv1.0.weight"
    assert torch.allclose(ours[name], theirs[name], atol=1e-6)


def test_without_val_the_last_weights_are_published(data, tmp_path):
    train = open_splits(data).train
    result = run(recipe(steps=2), (train, None), tmp_path / "run")
    assert result.scores is None
    assert result.best is None
    kept = load_checkpoint(result.resume_from)["state_dict"]
    for name, value in torso.load(result.weights).state_dict().items():
        assert torch.equal(value, kept[f"model.{name}"]), name
    assert load_checkpoint(result.resume_from)[KEY]["origin"] is None


@pytest.mark.parametrize("evaluated", [True, False], ids=["val", "no val"])
@pytest.mark.parametrize(("every", "at"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_epochs_are_saved_where_they_are_evaluated_or_published(data, tmp_path, monkeypatch, evaluated, every, at):
    """An epoch of a few images takes less time than its checkpoint; best.ckpt has to be that epoch's own."""
    saved = []
    save = CheckpointCallback._save

    def noted(keeper, trainer):
        saved.append(trainer.global_step)
        save(keeper, trainer)

    monkeypatch.setattr(CheckpointCallback, "_save", noted)
    splits = open_splits(data)
    result = run(
        recipe(epochs=5), (splits.train, splits.val if evaluated else None), tmp_path / "run", eval_every=every
    )
    assert saved == [4 * epoch for epoch in at]
    best = load_checkpoint(result.run_dir / "checkpoints" / "best.ckpt")
    assert best["global_step"] == (4 * (result.best_epoch + 1) if evaluated else 20)


def test_a_proposer_learns_one_class_object(data, tmp_path):
    result = run(rpn(), data, tmp_path / "run")
    assert torso.load(result.weights).names == ("object",)
    assert result.scores.per_class[0].name == "object"


def rpn():
    from torso.training.compose_recipe import compose_recipe

    changes = {"input.size_hw": (64, 96), "neck.channels": 16, "head.channels": 16, "batch_size": 2, "steps": 1}
    return compose_recipe("rpn", backbone="test_resnet", input="letterbox", overrides=changes)


def test_plain_lines_say_what_happens_without_lightnings_noise(data, tmp_path, capfd):
    run(recipe(epochs=1), data, tmp_path / "run", progress=True)
    said = capfd.readouterr()
    assert "8 images to learn from, 4 to evaluate on" in said.out
    assert "epoch 1/1  4/4" in said.out
    assert "val AP" in said.out
    for noise in ("GPU available", "litlogger", "Tip", "Trainer", "UserWarning", "Lightning"):
        assert noise not in said.out + said.err


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"eval_every": 0}, "eval_every: expected a whole number of at least 1, got 0"),
        ({"log_every": 0}, "log_every: expected a whole number of at least 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every: expected a whole number of at least 1 or none, got 0"),
        ({"limit": 0}, "limit: expected a whole number of at least 1 or none, got 0"),
        ({"devices": 99, "accelerator": "gpu"}, "(?i)gpu|cuda|device"),
        ({"eval_batch_size": 0}, "eval_batch_size: expected a whole number of at least 1, got 0"),
        ({"init": "nothing.safetensors"}, "nothing.safetensors"),
    ],
)
def test_settings_out_of_range_are_refused(data, tmp_path, settings, sentence):
    with pytest.raises(Exception, match=sentence):
        run(recipe(), data, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_nothing_to_train_with_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="no recipe"):
        run(None, data, tmp_path / "run")
    with pytest.raises(ValueError, match="no data"):
        run(recipe(), None, tmp_path / "run")
    with pytest.raises(ValueError, match="no such folder"):
        run(recipe(), tmp_path / "none", tmp_path / "run")


def test_a_compiled_run_learns_what_a_plain_one_does(data, tmp_path, monkeypatch):
    """The engine's own wiring, with the compiler's front half: what inductor makes of the graph is not run here."""
    graphs = []

    def traced(function, **settings):
        graphs.append(function)
        return torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=False)

    monkeypatch.setattr(module, "compiled", traced)
    plain = run(recipe(compile="no"), data, tmp_path / "plain")
    assert not graphs
    whole = run(recipe(compile="yes"), data, tmp_path / "compiled")
    assert graphs
    left, right = (torso.load(r.weights).state_dict() for r in (plain, whole))
    for name, value in left.items():
        torch.testing.assert_close(right[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("share", "length", "first"), [(0.0, {"epochs": 4}, 4), (0.5, {"epochs": 4}, 2), (0.3, {"steps": 10}, 2)]
)
def test_the_last_epochs_do_not_mix_images(data, tmp_path, monkeypatch, share, length, first):
    """Eight images, two a step: ten steps are two epochs and a half, of which 0.3 is the third."""
    sets = []

    def kept(*args, **settings):
        sets.append(make_dataset(*args, **settings))
        return sets[-1]

    monkeypatch.setattr(detection, "make_dataset", kept)
    run(recipe(close_mosaic=share, **length), data, tmp_path / "run")
    assert [one.unmixed_from for one in sets] == [first]


def test_recorded_steps_want_one_cuda_device_and_one_batch_a_step(data, tmp_path):
    with pytest.raises(ValueError, match='one CUDA device; 1 of type cpu came; take compile "yes"'):
        run(recipe(compile="graphs"), data, tmp_path / "run", accelerator="cpu")
    with pytest.raises(PartError, match=r"expected 1 with compile=.graphs."):
        recipe(compile="graphs", accumulate=2).build()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recorded_steps_learn_what_compiled_ones_do(data, tmp_path):
    """Six steps in 32 bits, with a BatchNorm that learns and an average of the weights."""
    settings = {"steps": 6, "ema": 0.5, "precision": "32"}
    runs = [
        run(recipe(compile=how, **settings), data, tmp_path / how, accelerator="gpu", devices=1)
        for how in ("yes", "graphs")
    ]
    left, right = (torso.load(r.weights).state_dict() for r in runs)
    for name, value in left.items():
        torch.testing.assert_close(right[name], value, rtol=1e-2, atol=1e-3, msg=name)
