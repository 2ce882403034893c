"""`torso demo` in miniature: the same way as `make demo`, with a few images and one epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.commands import Command

from torso.cli.demo import demo_recipe
from torso.training.compose_recipe import check
from torso.yaml_text import from_yaml, to_yaml


def test_the_recipe_can_learn_and_is_plain_data() -> None:
    assert check(demo_recipe()).head.num_classes == 10
    assert from_yaml(to_yaml(demo_recipe())) == demo_recipe()


@pytest.mark.slow
def test_the_demo_leaves_a_report(torso: Command, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the demo's digits come from scikit-learn (extra demo)")
    done = torso("demo", "--out", tmp_path / "demo", "--images", 12, 4, "--epochs", 1, "--workers", 0)
    assert done.code == 0
    assert "AP50" in done.out
    assert (tmp_path / "demo" / "run" / "report" / "index.html").is_file()
    assert (tmp_path / "demo" / "data" / "annotations" / "instances_val.json").is_file()


def test_mistakes(torso: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("precious")
    done = torso("demo", "--out", tmp_path)
    assert done.code == 1
    assert "nothing was written" in done.sentence
    assert torso("demo", "--epochs", 0).code == 2
