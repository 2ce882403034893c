"""Which images are shown."""

from __future__ import annotations

import numpy as np

from torso.report.samples import choose_images


def test_best_weakest_and_random_are_apart() -> None:
    scores = np.array([1.0, 0.2, 1.0, 0.0, 0.5, 0.6, 0.0, 0.7])
    objects = np.array([1, 3, 5, 2, 2, 2, 4, 2])
    chosen = choose_images(scores, objects, each=2, seed=0)
    assert chosen["Best"] == [2, 0]
    assert chosen["Weakest"] == [6, 3]
    assert len(chosen["Random"]) == 2
    assert len({row for rows in chosen.values() for row in rows}) == 6
    assert choose_images(scores, objects, each=2, seed=0) == chosen


def test_few_images_are_shown_once() -> None:
    chosen = choose_images(np.array([0.5, 0.9]), np.array([1, 1]), each=4, seed=0)
    assert chosen == {"Best": [1, 0]}
    assert choose_images(np.zeros(0), np.zeros(0, dtype=np.int64), each=4, seed=0) == {}
