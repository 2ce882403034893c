"""The warning of priors that cannot reach the objects: by the assigner's own threshold, silent where it asks none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.builders import write_coco

from torso.data.annotations import Annotations
from torso.data.layout import open_dataset
from torso.training.compose import compose_recipe
from torso.training.prior_note import prior_note

SMALL = {"backbone": "test_resnet", "input": "letterbox"}


def note(name: str, train: Annotations, **overrides: object) -> str | None:
    recipe = compose_recipe(name, **SMALL, overrides={"input.size_hw": (96, 128), **overrides})  # type: ignore[arg-type]
    return prior_note(recipe.get("model").build(), recipe.get("criterion").build(), train)


@pytest.fixture
def train(tmp_path: Path) -> Annotations:
    return open_dataset(write_coco(tmp_path / "set", n_images=12), "train")


def test_it_speaks_where_objects_are_out_of_reach(train: Annotations) -> None:
    said = note("retinanet", train, **{"head.priors.base_scale": 20.0})
    assert said is not None
    assert "only 0% of" in said
    assert "overlapped by 0.5" in said
    assert note("retinanet", train, **{"head.priors.base_scale": 1.5}) is None


def test_a_rescue_counts_as_reaching(train: Annotations) -> None:
    """RPN asks for 0.7 but takes the best prior of an object from 0.3 on."""
    assert note("rpn", train, **{"head.priors.base_scale": 4.0}) is None
    far = note("rpn", train, **{"head.priors.base_scale": 40.0})
    assert far is not None
    assert "overlapped by 0.3" in far


def test_points_and_nearest_assigners_have_no_threshold(train: Annotations) -> None:
    assert note("fcos", train) is None
    assert note("retinanet", train, **{"head.priors.base_scale": 20.0, "assigner": "atss"}) is None


def test_nothing_to_look_at(train: Annotations) -> None:
    empty = train.keep_boxes(np.zeros(len(train.boxes), dtype=np.bool_))
    assert note("retinanet", empty) is None


def test_other_assigners_ask_in_their_own_way(train: Annotations) -> None:
    far = {"head.priors.base_scale": 80.0}
    by_ratio = note("retinanet", train, **far, assigner="yolo_v5")
    assert by_ratio is not None
    assert "matched within 4 times its sides" in by_ratio
    assert note("retinanet", train, **{"head.priors.base_scale": 2.0}, assigner="yolo_v5") is None
    assert note("retinanet", train, **far, assigner="yolo_v3") is None  # the most alike is always taken
    by_overlap = note("retinanet", train, **far, assigner="ssd")
    assert by_overlap is not None
    assert "overlapped by 0.5" in by_overlap
