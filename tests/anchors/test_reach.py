"""The best overlap that priors can have with boxes, against every prior written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data.builders import write_coco
from torch import Tensor

from torso.anchors.reach import (
    InputBoxes,
    best_overlap,
    best_ratio,
    input_boxes,
    levels_of,
    pair_iou,
    placed_shapes,
    reach,
)
from torso.data.layout import open_dataset
from torso.geometry.boxes import iou_matrix
from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.points import Points
from torso.geometry.priors.shapes import Shapes
from torso.inputs.fixed import Fixed
from torso.inputs.letterbox import Letterbox
from torso.inputs.tiles import Tiles

STRIDES = [(8, 8), (16, 32)]


def random_boxes(count: int, size_hw: tuple[int, int]) -> tuple[Tensor, InputBoxes]:
    rng = np.random.default_rng(1)
    wh = np.exp(rng.uniform(1, 4.5, (count, 2)))
    center = rng.uniform(0, 1, (count, 2)) * size_hw[::-1]  # over the border too
    boxes = torch.from_numpy(np.concatenate([center - wh / 2, center + wh / 2], axis=1))
    return boxes, InputBoxes(center, wh, np.tile(np.array(size_hw[::-1], dtype=np.float64), (count, 1)))


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("kind", [Anchors, Shapes])
def test_the_nearest_place_is_the_best_of_all(kind: type[Anchors | Shapes], offset: float) -> None:
    if kind is Shapes:
        made: Anchors | Shapes = Shapes(STRIDES, sizes=(((9.0, 20.0),), ((40.0, 12.0), (70.0, 60.0))), offset=offset)
    else:
        made = Anchors(STRIDES, offset=offset)
    boxes, seen = random_boxes(300, (96, 128))
    priors = made([(12, 16), (6, 4)], (96, 128))
    every = iou_matrix(boxes, priors.boxes.double()).amax(1)
    np.testing.assert_allclose(best_overlap(seen, levels_of(made)), every.numpy(), atol=1e-6)


def test_without_places_only_shapes_count() -> None:
    _, seen = random_boxes(50, (96, 128))
    made = Shapes(STRIDES, sizes=(((9.0, 20.0),), ((40.0, 12.0),)))
    ours = best_overlap(seen, levels_of(made), placed=False)
    both = [pair_iou(seen.sizes_wh, np.array(wh)) for wh in ((9.0, 20.0), (40.0, 12.0))]
    np.testing.assert_allclose(ours, np.maximum(*both), rtol=1e-6)
    assert (ours >= best_overlap(seen, levels_of(made))).all()


def test_boxes_are_scaled_as_the_model_sees_them(tmp_path: object) -> None:
    annotations = open_dataset(write_coco(tmp_path / "set", n_images=3), "train")  # type: ignore[operator]  # a Path
    own = input_boxes(annotations, Fixed(size_hw=(96, 128)), 32)
    seen = input_boxes(annotations, Fixed(size_hw=(192, 128)), 32)
    np.testing.assert_allclose(seen.sizes_wh, own.sizes_wh * (1, 2))
    np.testing.assert_allclose(seen.centers_xy, own.centers_xy * (1, 2))
    assert (seen.canvas_wh == (128, 192)).all()
    half = input_boxes(annotations, Letterbox(size_hw=(48, 100)), 32)
    np.testing.assert_allclose(half.sizes_wh, own.sizes_wh / 2)
    assert (half.canvas_wh == (128, 64)).all()
    tiled = input_boxes(annotations, Tiles(size_hw=(48, 64), whole=False), 32)
    np.testing.assert_allclose(tiled.sizes_wh, own.sizes_wh)


def test_reach_counts_groups_by_hand(tmp_path: object) -> None:
    annotations = open_dataset(write_coco(tmp_path / "set", n_images=4), "train")  # type: ignore[operator]
    best = np.linspace(0, 1, len(annotations.boxes))
    rows = {one.group: one for one in reach(best, annotations, 0.5)}
    assert rows["all"].boxes == len(best)
    assert rows["all"].recall == (best >= 0.5).mean()
    assert rows["all"].mean_iou == pytest.approx(0.5)
    per_class = [rows[name] for name in annotations.class_names if name in rows]
    assert sum(one.boxes for one in per_class) == len(best)
    red = best[annotations.labels == 0]
    assert rows["red"].recall == (red >= 0.5).mean()
    assert sum(rows[name].boxes for name in ("small", "medium", "large") if name in rows) == len(best)
    crowded = annotations.keep_boxes(np.zeros(len(best), dtype=np.bool_))
    (nothing,) = reach(np.zeros(0), crowded, 0.5)
    assert nothing.boxes == 0
    assert np.isnan(nothing.recall)


def test_ratio_of_sides_by_hand_and_what_has_shapes() -> None:
    made = Shapes(STRIDES, sizes=(((10.0, 20.0),), ((40.0, 10.0),)))
    sizes = np.array([[10.0, 20.0], [20.0, 10.0], [80.0, 5.0]])
    seen = InputBoxes(np.zeros((3, 2)), sizes, np.full((3, 2), 96.0))
    assert best_ratio(seen, levels_of(made)).tolist() == [1.0, 2.0, 2.0]
    assert placed_shapes(made) is made
    assert placed_shapes(Points(STRIDES)) is None
    assert placed_shapes(None) is None
