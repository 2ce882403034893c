"""Weight files: what is written is read back, whole or not at all; another class list keeps what both lists share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import torso
from torso import compose_model, create, load, save, transfer
from torso.heads._base import ClassRows
from torso.models.detector import Detector
from torso.parts import Part, PartError, part
from torso.types import Images
from torso.weights import WeightsError, metadata, read, write_atomic

TINY = {"neck.channels": 16, "head.channels": 16, "head.tower": 1, "backbone.name": "test_resnet"}


Saved = tuple[Path, Part[Detector], Detector]
Built = tuple[Part[Detector], Detector]


def tiny(name: str = "retinanet", names: tuple[str, ...] = ("cat", "dog"), **more: object) -> Built:
    overrides = {**TINY, **{k.replace("__", "."): v for k, v in more.items()}}
    model_part = compose_model(name, num_classes=len(names), overrides=overrides)
    model = model_part.build()
    model.names = names
    return model_part, model.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    model_part, model = tiny()
    save(tmp_path / "m.safetensors", model, model_part, category_ids=(7, 90))
    return tmp_path / "m.safetensors", model_part, model


def test_load_gives_the_same_function_names_and_ids(saved: Saved) -> None:
    path, _, model = saved
    before = torch.random.get_rng_state()
    again = load(path)
    assert torch.equal(before, torch.random.get_rng_state())
    images = Images(torch.rand(1, 3, 64, 64) * 255, torch.tensor([[64.0, 64.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    assert torch.equal(again(images).logits, model(images).logits)
    assert again.names == ("cat", "dog")
    assert not again.training
    assert read(path).category_ids == (7, 90)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_recipe_is_kept_and_the_model_in_it_is_loaded(tmp_path: Path) -> None:
    from torso.training.compose_recipe import compose_recipe

    recipe = compose_recipe("fcos", num_classes=2, overrides=TINY)
    model = recipe.get("model").build()
    save(tmp_path / "m.safetensors", model, recipe, names=("a", "b"))
    bundle = read(tmp_path / "m.safetensors")
    assert Part.from_dict(bundle.recipe or {}) == recipe
    assert bundle.version == torso.__version__
    assert load(tmp_path / "m.safetensors").names == ("a", "b")


def test_a_training_checkpoint_is_loaded_with_its_average_where_it_has_one(tmp_path: Path) -> None:
    model_part, model = tiny()
    state = {f"model.{k}": v for k, v in model.state_dict().items()} | {"criterion.x": torch.zeros(1)}
    record = {
        "recipe": {"part": "recipes.recipe", "model": model_part.to_dict()},
        "names": ["cat", "dog"],
        "category_ids": [1, 5],
        "ema": None,
    }
    torch.save({"torso": record, "state_dict": state, "epoch": 3}, tmp_path / "a.ckpt")
    average = {k: v + 1 for k, v in model.state_dict().items()}
    torch.save({"torso": {**record, "ema": average}, "state_dict": state}, tmp_path / "b.ckpt")
    key = "head.branches.0.cls_out.weight"
    assert torch.equal(load(tmp_path / "a.ckpt").state_dict()[key], model.state_dict()[key])
    assert torch.equal(load(tmp_path / "b.ckpt").state_dict()[key], model.state_dict()[key] + 1)
    assert read(tmp_path / "a.ckpt").category_ids == (1, 5)
    torch.save({"torso": {"names": []}, "state_dict": state}, tmp_path / "c.ckpt")
    with pytest.raises(WeightsError, match="record of the model is damaged"):
        load(tmp_path / "c.ckpt")


def test_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weight file at .*gone\.safetensors"):
        load(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_a_file_cut_short_says_so(saved: Saved, keep: int) -> None:
    saved[0].write_bytes(saved[0].read_bytes()[:keep])
    with pytest.raises(WeightsError, match="cut short, damaged, or of another kind"):
        load(saved[0])


def test_a_checkpoint_cut_short_says_so(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1000)}, tmp_path / "c.ckpt")
    (tmp_path / "c.ckpt").write_bytes((tmp_path / "c.ckpt").read_bytes()[:500])
    with pytest.raises(WeightsError, match="cut short or damaged"):
        load(tmp_path / "c.ckpt")


def test_files_of_others_are_told_apart(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.pt")
    (tmp_path / "text.safetensors").write_text("hello, this is a text file")
    for name in ("other.safetensors", "other.pt"):
        with pytest.raises(WeightsError, match="is no torso weight file"):
            load(tmp_path / name)
    with pytest.raises(WeightsError, match="cannot be read as a weight file"):
        load(tmp_path / "text.safetensors")


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"torso": nn.Linear(1, 1)}, tmp_path / "code.ckpt")
    with pytest.raises(WeightsError, match="could run code"):
        load(tmp_path / "code.ckpt")


def test_tensors_that_do_not_fit_are_named(saved: Saved) -> None:
    path, model_part, model = saved
    record = metadata(model_part, names=model.names)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["head.branches.0.cls_out.bias"] = torch.zeros(5)
    save_file({k: v.contiguous() for k, v in state.items()}, path, metadata=record)
    with pytest.raises(WeightsError, match=r"head\.branches\.0\.cls_out\.bias has shape \[5\] for \[18\]"):
        load(path)


def test_class_names_must_fit(tmp_path: Path) -> None:
    model_part, model = tiny()
    with pytest.raises(WeightsError, match="2 classes, but 3 class names came"):
        save(tmp_path / "m.safetensors", model, model_part, names=("a", "b", "c"))
    assert not list(tmp_path.iterdir())


def test_a_foreign_part_must_be_allowed(saved: Saved) -> None:
    path, model_part, model = saved
    record = metadata(model_part, names=model.names)
    record["model"] = record["model"].replace("necks.fpn", "os:system")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path, metadata=record)
    with pytest.raises(PartError, match="was not allowed"):
        load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.bin"
    write_atomic(path, b"old")

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("torso.weights.os.replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["w.bin"]


def write(tmp_path: Path, names: tuple[str, ...] = ("cat", "dog"), **more: object) -> tuple[Path, Detector]:
    model_part, model = tiny(names=names, **more)
    with torch.no_grad():
        for p in model.parameters():
            p.uniform_(-1, 1)
    save(tmp_path / "source.safetensors", model, model_part)
    return tmp_path / "source.safetensors", model


def test_transfer_maps_the_classes_that_both_name(tmp_path: Path) -> None:
    path, source = write(tmp_path, names=("cat", "dog", "cow"))
    _, model = tiny(names=("dog", "emu"))
    before = model.head.branches[0].cls_out.weight.clone()
    report = transfer(model, path)
    new = model.head.branches[0].cls_out.weight.view(9, 2, *before.shape[1:])
    old = source.head.branches[0].cls_out.weight.view(9, 3, *before.shape[1:])
    assert torch.equal(new[:, 0], old[:, 1])
    assert torch.equal(new[:, 1], before.view_as(new)[:, 1])
    assert report.mapped == ("head.branches.0.cls_out.weight", "head.branches.0.cls_out.bias")
    assert (report.classes_kept, report.classes_new, report.classes_dropped) == (("dog",), ("emu",), ("cat", "cow"))
    assert len(report.kept) == len(model.state_dict()) - 2
    assert not report.new
    assert not report.dropped
    assert "classes kept (1): dog" in str(report)


def test_transfer_keeps_the_background_of_softmax_heads(tmp_path: Path) -> None:
    path, source = write(tmp_path, names=("cat", "dog"), head__scores="softmax")
    _, model = tiny(names=("owl", "dog", "emu"), head__scores="softmax")
    transfer(model, path)
    new = model.head.branches[0].cls_out.bias.view(9, 4)
    old = source.head.branches[0].cls_out.bias.view(9, 3)
    assert torch.equal(new[:, 3], old[:, 2])
    assert torch.equal(new[:, 1], old[:, 1])


def test_transfer_between_equal_lists_copies_everything(tmp_path: Path) -> None:
    path, source = write(tmp_path)
    _, model = tiny()
    report = transfer(model, path)
    assert not report.mapped
    assert not report.new
    wanted = source.state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in model.state_dict().items())


def test_transfer_to_another_head_keeps_backbone_and_neck_and_says_the_rest(tmp_path: Path) -> None:
    path, _ = write(tmp_path, names=("cat", "dog"))
    _, model = tiny("fcos", names=("cat", "dog"), neck__extra="conv_c5")
    report = transfer(model, path)
    assert all(not k.startswith(("backbone", "neck")) for k, _ in report.new)
    reasons = dict(report.new)
    assert "shape" in reasons["head.branches.0.cls_out.weight"]
    assert reasons["head.scale"] == "not in the source"
    assert "head.branches.0.cls_tower.0.conv.bias" in report.dropped


def test_transfer_of_nothing_is_refused(tmp_path: Path) -> None:
    path, _ = write(tmp_path)
    other = {"backbone__name": "test_vit", "backbone__frozen_stride": 0, "neck__finest": 16, "head__finest": 16}
    _, model = tiny("fcos", neck__channels=24, **other)
    with pytest.raises(WeightsError, match=r"nothing in .* fits"):
        transfer(model, path)


def test_class_rows_of_four_values_move_together(tmp_path: Path) -> None:
    path, source = write(tmp_path, names=("cat", "dog"))
    _, model = tiny(names=("dog", "cat"))

    class PerClassBoxes(type(source.head)):  # a head whose box output is per class: [K * 4] rows
        def class_rows(self, parameter: str) -> ClassRows | None:
            return ClassRows(values=18) if parameter.startswith("branches.0.box_out") else None

    model.head.__class__ = PerClassBoxes
    transfer(model, path)
    new, old = model.head.branches[0].box_out.bias, source.head.branches[0].box_out.bias
    assert torch.equal(new, old.view(2, 18).flip(0).flatten())


def test_create_takes_names_and_local_weights() -> None:
    model = create("fcos", class_names=("a", "b"), overrides=TINY)
    assert model.names == ("a", "b")
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(PartError, match="num_classes=3, but 2 class names"):
        create("fcos", num_classes=3, class_names=("a", "b"), overrides=TINY)
    with pytest.raises(ValueError, match=r"no weight file at 'gone\.bin'"):
        create("fcos", class_names=("a",), overrides=TINY, pretrained="gone.bin")


def test_part_is_a_public_name() -> None:
    assert torso.part is part
