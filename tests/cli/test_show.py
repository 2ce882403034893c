"""`torso show`: what it prints is true, its YAML goes back in, and every wrong composition is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.commands import TINY, Command

from torso.cli._model_flags import SLOTS, roots
from torso.parts import names
from torso.training.compose_recipe import compose_recipe
from torso.yaml_text import from_yaml


def test_the_page_says_parts_maps_and_costs(torso: Command) -> None:
    page = torso("show", "fcos", *TINY, "--num-classes", 3, "--size", 64, 96).out
    assert "classes: 3, input 64 x 96" in page
    assert "FLOPs = 2 x multiply-adds" in page
    assert "FPN(channels=16" in page
    assert "logits" in page
    assert "8 x 12" in page, "the map of stride 8"
    assert "part: recipes.recipe" in page


def test_levels_that_the_head_leaves_unread_are_said(torso: Command) -> None:
    flags = [*(f for f in TINY if f != "--head.coarsest=32"), "--neck.finest=4", "--head.coarsest=16"]
    page = torso("show", "fcos", *flags).out
    assert [line.strip() for line in page.splitlines() if "read by no head" in line] == [
        "stride 4: read by no head", "stride 32: read by no head"
    ]  # fmt: skip
    assert "read by no head" not in torso("show", "fcos", *TINY).out
    shown = json.loads(torso("show", "fcos", *flags, "--json").out)
    assert [level["read"] for level in shown["stages"][1]["levels"]] == [False, True, True, False]


@pytest.mark.parametrize(
    ("base", "head", "paper", "flags"),
    [
        ("fcos", "tal", "tal_n", ["--head.coarsest=32", "--neck.coarsest=32"]),
        ("fcos", "yolox", "yolox_s", ["--head.coarsest=32", "--neck.coarsest=32"]),
        ("yolov3", "yolov5", "yolov5n", []),
        ("ssd512", "ssd", "ssd300", []),
        ("retinanet", "efficientdet", "efficientdet_d0", []),
        ("fcos", "grid", "yolov1", ["--head.finest=32"]),
        ("fcos", "ssd", "ssd300", []),
    ],
)
def test_a_head_brings_its_papers_criterion_and_it_is_said(
    torso: Command, base: str, head: str, paper: str, flags: list[str]
) -> None:
    shown = torso("show", base, f"--head={head}", "--backbone=test_resnet", "--yaml", *flags)
    assert shown.code == 0, shown.err
    own = from_yaml(torso("show", paper, "--yaml").out)
    assert from_yaml(shown.out).get("criterion") == own.get("criterion")
    assert shown.sentence.startswith(f"--head {head} brings its own criterion, by which ")
    assert torso("show", base, "--yaml").err == ""


def test_tiles_are_said_and_counted_by_the_tile(torso: Command) -> None:
    flags = [f for f in TINY if not f.startswith("--input")]
    whole, tiled = (torso("show", "fcos", *flags, *more).out for more in ([], ["--tiles=640,320", "--overlap=0.2"]))
    assert "input 800 x 1344 (height x width)\n" in whole
    assert "input 1344 x 672 (height x width): one tile, 640 x 320 px of a larger image\n" in tiled
    assert "multiply-adds of one image" in whole
    assert "multiply-adds of one tile" in tiled
    assert "GFLOP (2 a multiply-add)" in tiled
    shown = json.loads(torso("show", "fcos", *flags, "--tiles=640", "--json").out)
    assert (shown["tile_hw"], shown["input_hw"]) == ([640, 640], [800, 800])
    assert shown["flops_unit"] == "2 x multiply-adds, one tile"


def test_json(torso: Command) -> None:
    shown = json.loads(torso("show", "retinanet", *TINY, "--json").out)
    assert [s["stage"] for s in shown["stages"]] == ["backbone", "neck", "head"]
    assert shown["parameters"] == sum(s["parameters"] for s in shown["stages"])
    assert shown["flops_unit"] == "2 x multiply-adds, one image"
    assert shown["input_hw"] == [64, 96]
    assert shown["recipe"]["part"] == "recipes.recipe"


@pytest.mark.parametrize("model", names("zoo"))
def test_the_yaml_of_every_model_goes_back_in(torso: Command, tmp_path: Path, model: str) -> None:
    printed = torso("show", model, "--epochs", 3, "--suppression=soft_nms", "--yaml").out
    file = tmp_path / "my.yaml"
    file.write_text(printed)
    assert torso("show", file, "--yaml").out == printed
    recipe = from_yaml(file)
    assert recipe == compose_recipe(model, suppression="soft_nms", overrides={"epochs": 3})
    assert recipe.get("epochs") == 3


def test_a_flag_changes_what_a_file_says(torso: Command, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(torso("show", "fcos", *TINY, "--yaml").out)
    changed = torso("show", file, "--lr=0.5", "--neck.channels", 32, "--deterministic", "--yaml").out
    assert "lr: 0.5" in changed
    assert "channels: 32" in changed
    assert "deterministic: true" in changed


def test_every_slot_is_a_flag_and_a_root() -> None:
    assert set(SLOTS) - {"cls_loss", "box_loss", "assigner"} <= set(roots())
    assert {
        "cls",
        "box",
        "quality",
        "distribution",
        "assigner",
        "cls_loss",
        "box_loss",
        "sampler",
        "model",
        "criterion",
        "augment",
    } <= set(roots())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["fcoss"], "no model is called 'fcoss'; did you mean 'fcos'"),
        (["fcos", "--backbone=resnet51"], "did you mean 'resnet51q' or 'resnet50'"),
        (["fcos", "--neck=fpnn"], "--neck: no neck is called 'fpnn'; did you mean 'fpn'"),
        (["fcos", "--assigner=ats"], "--assigner: no assigner is called 'ats'; did you mean 'atss'"),
        (["fcos", "--box-loss=gio"], "--box-loss: no loss is called 'gio'; did you mean 'giou'"),
        (
            ["fcos", "--box-loss=focal"],
            "criteria.dense, which wants a loss of boxes: choose --box-loss balanced_l1 or ciou",
        ),
        (["fcos", "--suppression=nsm"], "did you mean 'nms'"),
        (["fcos", "--suppression.overlap=ciou"], "expected one of 'iou', 'giou', 'diou' or Overlap, got 'ciou'"),
        (["fcos", "--nek=fpn"], "unknown flag --nek; did you mean '--neck'"),
        (["fcos", "--neck.chanels=3"], "FPN has no argument 'chanels'; did you mean 'channels'"),
        (["fcos", "--nekc.channels=3"], "did you mean '--neck.channels'"),
        (["fcos", "--neck.channels=wide"], "--neck.channels: expected a whole number of at least 1"),
        (["fcos", "--lr=fast"], "--lr: expected a number above 0, got 'fast'"),
        (["fcos", "--optimizer=sdg"], "--optimizer: expected one of 'sgd', 'adam', 'adamw', got 'sdg'"),
        (["fcos", "--epochs=0"], "--epochs: expected a whole number of at least 1, got '0'"),
        (["fcos", "--neck.finest=16"], "start the neck at stride 8"),
        (["fcos", "--num-classes=many"], "invalid int value"),
        (["fcos", "--size", "100", "100"], "multiples of 32"),
        (["fcos", "--pretrained=/no/file.pt"], "'hub' or a weight file was wanted"),
        (["no_such_file.yaml"], "no file at no_such_file.yaml"),
        (["centernet_points", "--neck.finest=8"], "stride 4"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_what_cannot_be_composed_is_refused(torso: Command, flags: list[str], said: str) -> None:
    done = torso("show", *flags)
    assert done.code == 2
    assert said in done.sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("part: [unclosed\n", "no valid YAML"),
        ("- a\n- b\n", "must hold a part"),
        ("part: heads.fcos\nnum_classes: 3\n", "is no recipe"),
        ("part: os:system\n", "outside torso"),
        ("part: recipes.recipe\nmodle: 3\n", "did you mean 'model'"),
        ("part: recipes.recipe\nlr: fast\n", "Recipe.lr: expected a number above 0, got 'fast'"),
        ("part: recipes.fcos\nnum_classes: !!python/object/apply:os.system [ls]\n", "no valid YAML"),
    ],
)
def test_a_wrong_file_is_named(torso: Command, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    done = torso("show", file)
    assert done.code == 2
    assert "wrong.yaml" in done.sentence
    assert said in done.sentence
    assert file.read_text() == text
