"""The warning of priors that cannot reach the objects: by the assigner's own threshold, silent where it takes any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data.builders import write_coco

from torso.anchors.coverage import _rule, prior_note
from torso.anchors.reach import InputBoxes, levels_of
from torso.data.annotations import Annotations
from torso.data.layout import open_dataset
from torso.data.targets import Targets
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.priors.points import Points
from torso.parts import part
from torso.training.assigners.fcos import FCOSAssigner
from torso.training.compose_recipe import compose_recipe

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


def test_rules_of_centres_ask_for_a_place_inside(train: Annotations) -> None:
    """Objects of a tenth of their size lie between the points of stride 8."""
    tiny = replace(train, boxes=np.concatenate([train.boxes[:, :2], train.boxes[:, :2] + 2.0], axis=1))
    for model, flags in (("fcos", {}), ("retinanet", {"assigner": "atss"}), ("fcos", {"assigner": "task_aligned"})):
        assert note(model, train, **flags) is None
        said = note(model, tiny, **flags)
        assert said is not None, (model, flags)
        assert "larger images" in said
    assert note("retinanet", train, **{"head.priors.base_scale": 20.0, "assigner": "atss"}) is None  # shapes are free
    assert note("fcos", tiny, assigner="simota") is not None  # near is enough for it, not for distances to the sides
    assert note("fcos", tiny, **{"assigner": "simota", "head.coder": part(DeltaCoder)}) is None


@pytest.mark.parametrize("radius", [0.0, 1.5, 0.4])
def test_what_fcos_can_learn_is_what_its_assigner_gives_a_point(radius: float) -> None:
    """Each box alone in its image: thin, tiny, large ones, some half outside."""
    rng = np.random.default_rng(0)
    centers, sizes = rng.uniform(0, 256, (400, 2)), np.exp(rng.uniform(0.5, 6.0, (400, 2)))
    boxes = InputBoxes(centers, sizes, np.full((400, 2), 256.0))
    points = Points([(8, 8), (16, 16), (32, 32), (64, 64)])
    assigner = FCOSAssigner(radius=radius)
    xyxy = torch.as_tensor(np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1))[:, None]
    there = torch.ones(400, 1, dtype=torch.bool)
    targets = Targets(xyxy, torch.zeros(400, 1, dtype=torch.long), there, ~there)
    grid = points([(32, 32), (16, 16), (8, 8), (4, 4)], (256, 256))
    learnt = (assigner(grid, targets).target >= 0).any(1).numpy()
    rule = _rule(assigner, shaped=False, held=True)
    assert rule is not None
    assert 0.1 < learnt.mean() < 0.9
    assert (rule.reached(boxes, levels_of(points)) == learnt).all()


def test_nothing_to_look_at(train: Annotations) -> None:
    empty = train.keep_boxes(np.zeros(len(train.boxes), dtype=np.bool_))
    assert note("retinanet", empty) is None


def test_other_assigners_ask_in_their_own_way(train: Annotations) -> None:
    far = {"head.priors.base_scale": 80.0}
    by_ratio = note("retinanet", train, **far, assigner="yolo_v5")
    assert by_ratio is not None
    assert "matched within 4 times their sides" in by_ratio
    assert note("retinanet", train, **{"head.priors.base_scale": 2.0}, assigner="yolo_v5") is None
    assert note("retinanet", train, **far, assigner="yolo_v3") is None  # the most alike is always taken
    by_overlap = note("retinanet", train, **far, assigner="ssd")
    assert by_overlap is not None
    assert "overlapped by 0.5" in by_overlap
