"""Criteria as files wrote them before terms were parts: read as today's, by every door that reads a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from torso.parts import Part, PartError, find, part
from torso.training.compose_recipe import compose_recipe
from torso.training.criteria._old_names import DENSE, TWO_STAGE
from torso.training.criteria.dense import DenseCriterion
from torso.training.criteria.two_stage import TwoStageCriterion
from torso.yaml_text import from_yaml, to_yaml

# What version 0.1 wrote of every recipe's criterion, by `find(name, "recipes")().get("criterion").to_dict()`.
OLD: dict[str, Any] = json.loads((Path(__file__).parent / "old_criteria.json").read_text())
VALUES: dict[str, Any] = {
    "cls_loss": {"part": "losses.qfl", "beta": 1.5},
    "cls_on": "positives",
    "cls_target": "iou",
    "cls_weight": 0.5,
    "box_loss": {"part": "losses.giou"},
    "box_weighting": "quality",
    "box_weight": 2.0,
    "quality_on": "used",
    "quality_target": "one",
    "quality_mix": 0.5,
    "quality_loss": "squared",
    "quality_normaliser": "sampled",
    "quality_weight": 3.0,
    "positive_weight": 5.0,
    "level_weights": [4.0, 1.0, 0.4],
    "dfl_loss": {"part": "losses.dfl"},
    "dfl_weight": 0.5,
}


def at(made: Part[Any], path: str) -> object:
    value: Any = made
    for name in path.split("."):
        value = value.get(name)
    return value


def plain(value: object) -> object:
    return value.to_dict() if isinstance(value, Part) else list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", OLD)
def test_every_recipe_of_before_is_todays(name: str) -> None:
    assert Part.from_dict(OLD[name]) == find(name, "recipes")().get("criterion")


def test_the_table_is_whole() -> None:
    assert set(VALUES) == set(DENSE)
    assert set(TWO_STAGE) <= set(DENSE)


@pytest.mark.parametrize(
    ("kind", "old"), [*(("dense", old) for old in DENSE), *(("two_stage", old) for old in TWO_STAGE)]
)
def test_every_old_argument_is_read_from_a_file_and_as_a_dotted_path(kind: str, old: str) -> None:
    target, table = (DenseCriterion, DENSE) if kind == "dense" else (TwoStageCriterion, TWO_STAGE)
    read = Part.from_dict({"part": f"criteria.{kind}", old: VALUES[old]})
    assert plain(at(read, table[old])) == VALUES[old]
    assert Part.from_dict(read.to_dict()) == read
    assert old not in read.to_dict()
    value = VALUES[old]
    text = value["part"].partition(".")[2] if isinstance(value, dict) else json.dumps(value).strip('"')
    by_path = part(target).override(old, text)
    assert by_path == part(target).override(table[old], text)
    if not isinstance(value, dict):
        assert by_path == read


def test_old_paths_in_a_recipes_overrides() -> None:
    recipe = compose_recipe(
        "retinanet", overrides={"criterion.box_weight": "2", "box_loss.beta": "0.5", "cls-loss.gamma": "1"}
    )
    today = {"criterion.box.weight": "2", "box.loss.beta": "0.5", "criterion.cls.loss.gamma": "1"}
    assert recipe == compose_recipe("retinanet", overrides=today)
    first = compose_recipe("faster_rcnn", overrides={"criterion.first.box_loss.beta": "0.5"})
    assert first.get("criterion").get("first").get("box").get("loss").get("beta") == 0.5


def test_an_old_yaml_file_is_printed_in_todays_form(tmp_path: Path) -> None:
    data = compose_recipe("tal_n", num_classes=3).to_dict()
    file = tmp_path / "old.yaml"
    file.write_text(json.dumps({**data, "criterion": OLD["tal_n"]}))  # JSON is YAML
    recipe = from_yaml(file)
    assert recipe == compose_recipe("tal_n", num_classes=3)
    assert "box_weight" not in to_yaml(recipe)


def test_what_was_never_an_argument_is_refused() -> None:
    with pytest.raises(PartError, match="no argument 'box_wight'"):
        Part.from_dict({"part": "criteria.dense", "box_wight": 2.0})
