"""Heatmap targets: radii in closed form, bumps against a plain loop, shared cells, rows that must not count."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.priors.points import Points
from torso.parts import PartError
from torso.training.assigners._base import CHUNK
from torso.training.assigners.gaussian import GaussianAssigner, gaussian_radius
from torso.types import Priors

HEIGHT, WIDTH, STRIDE, CLASSES = 21, 30, 4, 3


def points() -> Priors:
    return Points([(STRIDE, STRIDE)], offset=0.0)([(HEIGHT, WIDTH)], (HEIGHT * STRIDE, WIDTH * STRIDE))


def make_targets(boxes: list[list[float]], labels: list[int]) -> Targets:
    on = torch.ones(1, len(boxes), dtype=torch.bool)
    return Targets(torch.tensor([boxes], dtype=torch.float32), torch.tensor([labels]), on, ~on)


def random_targets(count: int, seed: int = 0) -> Targets:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(2, count, 2, generator=g) * 70
    boxes = torch.cat([corner, corner + torch.rand(2, count, 2, generator=g) * 40], dim=-1).clamp(max=84)
    valid = torch.rand(2, count, generator=g) > 0.2
    crowd = torch.rand(2, count, generator=g) > 0.9
    return Targets(boxes, torch.randint(0, CLASSES, (2, count), generator=g), valid, crowd)


def painted_by_hand(targets: Targets, overlap: float) -> Tensor:
    """One object, one cell at a time, as the definition reads."""
    b = targets.boxes.shape[0]
    heat = torch.zeros(b, HEIGHT, WIDTH, CLASSES, dtype=torch.float64)
    for i in range(b):
        for box, label, valid, crowd in zip(*(t[i].tolist() for t in targets[:4]), strict=True):
            if not valid or crowd:
                continue
            x1, y1, x2, y2 = (v / STRIDE for v in box)
            r = int(gaussian_radius(torch.tensor([x2 - x1, y2 - y1]), overlap))
            cx, cy, sigma = int((x1 + x2) / 2), int((y1 + y2) / 2), (2 * r + 1) / 6
            for y in range(max(cy - r, 0), min(cy + r + 1, HEIGHT)):
                for x in range(max(cx - r, 0), min(cx + r + 1, WIDTH)):
                    value = math.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
                    heat[i, y, x, label] = max(float(heat[i, y, x, label]), value)
    return heat.reshape(b, HEIGHT * WIDTH, CLASSES)


@pytest.mark.parametrize(
    ("size_wh", "at_03", "at_07"),
    [((32, 32), 7.2364, 2.6134), ((100, 50), 14.4511, 5.3869), ((10, 200), 3.4465, 1.4486)],
)
def test_radius_golden(size_wh: tuple[float, float], at_03: float, at_07: float) -> None:
    size = torch.tensor(size_wh, dtype=torch.float32)
    assert gaussian_radius(size, 0.3).item() == pytest.approx(at_03, abs=1e-4)
    assert gaussian_radius(size, 0.7).item() == pytest.approx(at_07, abs=1e-4)


@pytest.mark.parametrize("overlap", [0.1, 0.3, 0.5, 0.7, 0.95])
def test_radius_keeps_the_overlap_and_no_less(overlap: float) -> None:
    w, h = 37.0, 91.0
    r = gaussian_radius(torch.tensor([w, h], dtype=torch.float64), overlap).item()
    shifted = (w - r) * (h - r)
    worst = [shifted / (2 * w * h - shifted), (w - 2 * r) * (h - 2 * r) / (w * h), w * h / ((w + 2 * r) * (h + 2 * r))]
    assert min(worst) == pytest.approx(overlap, abs=1e-9)


def test_radius_of_nothing_is_zero() -> None:
    assert gaussian_radius(torch.tensor([[0.0, 0.0], [0.0, 9.0], [-3.0, 2.0]]), 0.7).tolist() == [0, 0, 0]


@pytest.mark.parametrize("count", [5, CHUNK + 7])
@pytest.mark.parametrize("overlap", [0.3, 0.7])
def test_heatmap_equals_a_plain_loop(overlap: float, count: int) -> None:
    targets = random_targets(count)
    heatmap, _ = GaussianAssigner(min_overlap=overlap)(points(), targets, CLASSES)
    torch.testing.assert_close(heatmap.double(), painted_by_hand(targets, overlap), rtol=1e-5, atol=1e-7)


def test_pairs_point_at_the_cell_of_each_centre() -> None:
    targets = make_targets([[0, 0, 10, 10], [61, 30, 80, 50]], [0, 2])
    heatmap, pairs = GaussianAssigner()(points(), targets, CLASSES)
    assert pairs.prior.tolist() == [[1 * WIDTH + 1, 10 * WIDTH + 17]]  # centres (5, 5) and (70.5, 40)
    assert pairs.target.tolist() == [[0, 1]]
    assert pairs.weight.tolist() == [[1, 1]]
    assert (heatmap == 1).nonzero().tolist() == [[0, WIDTH + 1, 0], [0, 10 * WIDTH + 17, 2]]


def test_invalid_and_crowd_rows_leave_no_trace() -> None:
    targets = random_targets(6)
    hidden = targets._replace(boxes=targets.boxes.where((targets.valid & ~targets.crowd)[..., None], torch.nan))
    ours, theirs = GaussianAssigner()(points(), targets, CLASSES), GaussianAssigner()(points(), hidden, CLASSES)
    assert torch.equal(ours.heatmap, theirs.heatmap)
    assert torch.equal(ours.pairs.weight > 0, targets.valid & ~targets.crowd)
    assert theirs.pairs.prior.min() >= 0
    assert theirs.pairs.prior.max() < HEIGHT * WIDTH


def test_no_targets_at_all() -> None:
    off = torch.zeros(2, 0, dtype=torch.bool)
    none = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long), off, off)
    heatmap, pairs = GaussianAssigner(shared_cell="last")(points(), none, CLASSES)
    assert heatmap.shape == (2, HEIGHT * WIDTH, CLASSES)
    assert not heatmap.any()
    assert pairs.prior.shape == (2, 0)


def test_two_objects_in_one_cell() -> None:
    boxes = [[40.0, 40.0, 52.0, 52.0], [30.0, 30.0, 63.0, 63.0], [41.0, 41.0, 52.0, 52.0], [0.0, 0.0, 9.0, 9.0]]
    targets = make_targets(boxes, [1, 1, 2, 0])
    heatmap, both = GaussianAssigner(shared_cell="all")(points(), targets, CLASSES)
    assert both.weight.tolist() == [[1, 1, 1, 1]]
    assert both.prior.unique().numel() == 2
    assert (heatmap == 1).sum() == 3  # the first two share cell and class
    assert GaussianAssigner(shared_cell="last")(points(), targets, CLASSES).pairs.weight.tolist() == [[0, 0, 1, 1]]


def test_a_centre_on_the_far_edge_stays_on_the_map() -> None:
    edge = [WIDTH * STRIDE, HEIGHT * STRIDE] * 2
    heatmap, pairs = GaussianAssigner()(points(), make_targets([[float(v) for v in edge]], [0]), CLASSES)
    assert pairs.prior.item() == HEIGHT * WIDTH - 1
    assert heatmap[0, -1, 0] == 1


def test_real_radius_lies_between_whole_ones() -> None:
    targets = make_targets([[20, 20, 84, 84]], [0])
    whole = GaussianAssigner(integer_radius=True)(points(), targets, CLASSES).heatmap.sum()
    real = GaussianAssigner(integer_radius=False)(points(), targets, CLASSES).heatmap.sum()
    assert whole < real < 2.5 * whole


def test_overlap_out_of_range_is_refused() -> None:
    with pytest.raises(PartError, match="min_overlap: expected a number above 0 and below 1"):
        GaussianAssigner(min_overlap=1.0)
