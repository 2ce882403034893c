"""Anchor shapes fitted to boxes: k-means on IoU (YOLOv2, arXiv 1612.08242), then a seeded search on the real grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from torso.anchors.reach import InputBoxes, PriorLevel, overlaps, pair_iou
from torso.data.annotations import Floats, Ints
from torso.errors import Refusal

_SAMPLE = 5000  # boxes; more change the third digit of a side
_RESTARTS, _ROUNDS = 3, 100
_DECIMALS = 1  # of a side, px: what is printed is what was measured


def fit_levels(
    boxes: InputBoxes,
    per_level: Sequence[int],
    strides_yx: Sequence[tuple[float, float]],
    *,
    offset: float,
    threshold: float,
    placed: bool = True,
    seed: int = 0,
    trials: int = 2000,
) -> list[PriorLevel]:
    """Shapes for each level, the smaller ones on the finer, that overlap the boxes best.

    per_level: how many shapes each level gets; strides_yx: fine to coarse. placed: as in best_overlap. The search
    changes one shape at a time and keeps what raises the mean best IoU, where a box below the threshold counts 0.
    ValueError where there are fewer different box sizes than shapes.
    """
    rng = np.random.default_rng(seed)
    if len(boxes.sizes_wh) > _SAMPLE:
        boxes = boxes.take(np.sort(rng.choice(len(boxes.sizes_wh), _SAMPLE, replace=False)))
    shapes = cluster(boxes.sizes_wh, sum(per_level), rng)
    owner = np.repeat(np.arange(len(per_level)), per_level)

    def column(row: int, shape: Floats) -> Floats:
        level = PriorLevel(shape[None], strides_yx[owner[row]], offset)
        return overlaps(boxes, [level], placed=placed)[:, 0]

    shapes = _search(shapes, column, threshold, rng, trials)
    return [
        PriorLevel(_by_area(shapes[owner == i]), (float(sy), float(sx)), offset)
        for i, (sy, sx) in enumerate(strides_yx)
    ]


def cluster(sizes_wh: Floats, count: int, rng: np.random.Generator) -> Floats:
    """[count, 2] centres of k-means with the distance 1 - IoU, by area; the best of several starts.

    ValueError where there are fewer than count different sizes.
    """
    different = len(np.unique(sizes_wh, axis=0))
    if different < count:
        raise Refusal(
            f"expected at most {different} shapes, as many as the boxes have different sizes, got {count}",
            remedies=[{"count": different}],
        )
    best, best_score = sizes_wh[:count], -1.0
    for _ in range(_RESTARTS):
        centers = _k_means(sizes_wh, _start(sizes_wh, count, rng))
        score = float(pair_iou(sizes_wh[:, None], centers[None]).max(axis=1).mean())
        if score > best_score:
            best, best_score = centers, score
    return _by_area(best)


def _start(sizes_wh: Floats, count: int, rng: np.random.Generator) -> Floats:
    """k-means++: each further centre is a box drawn by its squared distance from those that there are."""
    rows = [int(rng.integers(len(sizes_wh)))]
    distance = 1 - pair_iou(sizes_wh, sizes_wh[rows[0]])
    while len(rows) < count:
        weights = distance**2
        rows.append(int(rng.choice(len(sizes_wh), p=weights / weights.sum())))
        distance = np.minimum(distance, 1 - pair_iou(sizes_wh, sizes_wh[rows[-1]]))
    return sizes_wh[rows]


def _k_means(sizes_wh: Floats, centers: Floats) -> Floats:
    owner: Ints = np.full(len(sizes_wh), -1)
    for _ in range(_ROUNDS):
        nearest = pair_iou(sizes_wh[:, None], centers[None]).argmax(axis=1)
        if (nearest == owner).all():
            break
        owner = nearest
        members = np.bincount(owner, minlength=len(centers))[:, None]
        sums = np.stack([np.bincount(owner, sizes_wh[:, k], len(centers)) for k in (0, 1)], axis=1)
        centers = np.where(members > 0, sums / np.maximum(members, 1), centers)
    return centers


def _search(
    shapes: Floats, column: Callable[[int, Floats], Floats], threshold: float, rng: np.random.Generator, trials: int
) -> Floats:
    """Hill climbing: one shape, both sides times random factors, kept where the fitness rises.

    column: [n] IoU of every box with this shape in this row's place.
    """
    shapes = np.maximum(np.round(shapes, _DECIMALS), 10.0**-_DECIMALS)
    table = np.stack([column(row, shape) for row, shape in enumerate(shapes)], axis=1)
    fitness = _fitness(table.max(axis=1), threshold)
    for _ in range(trials):
        row = int(rng.integers(len(shapes)))
        spread = 10 ** rng.uniform(-2.0, -0.5)  # from a hundredth of a side to a third
        tried = np.maximum(np.round(shapes[row] * np.exp(rng.normal(0, spread, 2)), _DECIMALS), 10.0**-_DECIMALS)
        changed = column(row, tried)
        others = np.delete(table, row, axis=1).max(axis=1, initial=0.0)
        found = _fitness(np.maximum(others, changed), threshold)
        if found > fitness:
            fitness, table[:, row] = found, changed
            shapes = np.concatenate([shapes[:row], tried[None], shapes[row + 1 :]])
    return shapes


def _fitness(best: Floats, threshold: float) -> float:
    return float(np.where(best >= threshold, best, 0.0).mean())


def _by_area(shapes: Floats) -> Floats:
    return shapes[np.argsort(shapes.prod(axis=1), kind="stable")]
