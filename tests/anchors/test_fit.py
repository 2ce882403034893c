"""Fitted shapes: planted clusters come back, the search only ever helps, and the same seed gives the same shapes."""

from __future__ import annotations

import numpy as np
import pytest

from torso.anchors.fit import cluster, fit_levels
from torso.anchors.reach import InputBoxes, PriorLevel, best_overlap
from torso.data.annotations import Floats

PLANTED = np.array([[12.0, 14.0], [30.0, 60.0], [64.0, 30.0], [120.0, 110.0], [200.0, 240.0]])
STRIDES = [(8, 8), (16, 16), (32, 32)]


def planted(spread: float = 0.04, each: int = 120) -> InputBoxes:
    rng = np.random.default_rng(3)
    sizes: Floats = np.repeat(PLANTED, each, axis=0) * np.exp(rng.normal(0, spread, (len(PLANTED) * each, 2)))
    centers = rng.uniform(0, 512, sizes.shape)
    return InputBoxes(centers, sizes, np.full_like(sizes, 512.0))


def test_k_means_finds_planted_clusters() -> None:
    found = cluster(planted().sizes_wh, 5, np.random.default_rng(0))
    np.testing.assert_allclose(found, PLANTED, rtol=0.03)


def test_fitted_shapes_are_the_planted_ones_small_ones_on_fine_levels() -> None:
    levels = fit_levels(planted(), [2, 2, 1], STRIDES, offset=0.5, threshold=0.5, placed=False)
    assert [level.stride_yx for level in levels] == STRIDES
    shapes = np.concatenate([level.shapes_wh for level in levels])
    by_area = PLANTED[np.argsort(PLANTED.prod(axis=1))]
    np.testing.assert_allclose(shapes, by_area, rtol=0.05)


def test_the_search_raises_what_k_means_gave_and_is_seeded() -> None:
    boxes = planted(spread=0.5)

    def fitness(levels: list[PriorLevel]) -> float:
        best = best_overlap(boxes, levels)
        return float(np.where(best >= 0.5, best, 0).mean())

    runs = [
        fit_levels(boxes, [2, 2, 2], STRIDES, offset=0.5, threshold=0.5, seed=seed, trials=trials)
        for seed, trials in ((0, 0), (0, 400), (0, 400), (1, 400))
    ]
    assert fitness(runs[1]) > fitness(runs[0]) + 0.01
    for a, b in zip(runs[1], runs[2], strict=True):
        assert np.array_equal(a.shapes_wh, b.shapes_wh)
    assert any(not np.array_equal(a.shapes_wh, b.shapes_wh) for a, b in zip(runs[1], runs[3], strict=True))


def test_more_shapes_than_sizes_are_refused() -> None:
    boxes = planted(spread=0.0)
    with pytest.raises(ValueError, match="expected at most 5 shapes, as many as the boxes have different sizes, got 6"):
        fit_levels(boxes, [2, 2, 2], STRIDES, offset=0.5, threshold=0.5)
