"""Weighted box fusion: the paper's steps, golden values of ensemble-boxes, equality, variance, limits."""

from __future__ import annotations

import pytest
import torch

from torso.geometry.overlaps import BoxOverlap, PairOverlap
from torso.kernels.fuse import cluster_portable
from torso.kernels.fuse_cpu import cluster_cpu
from torso.kernels.rule import Comparison, Rule
from torso.suppression._base import rank
from torso.suppression.weighted_fusion import WeightedFusion
from torso.types import Candidates

from . import reference
from .cases import cases


@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize("name", [n for n in cases() if n != "far from the origin"])
def test_equals_the_papers_steps(name: str, per_class: bool) -> None:
    candidates = cases()[name]
    fusion = WeightedFusion(class_agnostic=not per_class, max_detections=150, sources=2)
    found = fusion(candidates)
    for image in range(len(candidates.scores)):
        boxes, scores, labels = (field[image].numpy() for field in candidates[:3])
        wanted = reference.weighted_fusion(boxes, scores, labels, threshold=0.55, sources=2, per_class=per_class)
        got = int(found.scores[image].count_nonzero())
        rows = found.index[image, :got] - candidates.index[image, 0]
        by_row = {row: (box, score) for row, box, score in wanted}
        assert sorted(rows.tolist()) == sorted(by_row)
        for row, box, score in zip(rows.tolist(), found.boxes[image], found.scores[image], strict=False):
            assert box.tolist() == pytest.approx(by_row[row][0].tolist(), abs=1e-4)
            assert score.item() == pytest.approx(by_row[row][1], abs=1e-6)
        assert (found.scores[image].diff() <= 0).all()


@pytest.mark.parametrize("kind", ["iou", "diou", "giou"])
@pytest.mark.parametrize("name", cases())
def test_numpy_and_portable_clusters_are_the_same(name: str, kind: PairOverlap) -> None:
    ranked = rank(cases()[name])
    for labels in (ranked.labels, None):
        rule = Rule(kind, 0.4, False)
        test = Comparison(BoxOverlap(kind=kind), 0.4, inclusive=False)
        found = cluster_cpu(ranked.boxes, ranked.scores, labels, rule)
        assert torch.equal(found, cluster_portable(ranked, labels, test))


def test_golden_values_of_two_models() -> None:
    """ensemble-boxes 1.0.9: model A [(0, 0, .5, .5) .9, (.6, .6, .9, .9) .5], model B [(.02, .02, .52, .52) .8]."""
    boxes = torch.tensor([[[0.0, 0, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9], [0.02, 0.02, 0.52, 0.52]]])
    rows = torch.arange(3).unsqueeze(0)
    both = Candidates(boxes, torch.tensor([[0.9, 0.5, 0.8]]), torch.zeros_like(rows), rows)
    found = WeightedFusion(sources=2, max_detections=3)(both)
    assert found.scores[0].tolist() == pytest.approx([0.85, 0.25, 0.0])
    assert found.boxes[0, 0].tolist() == pytest.approx([0.00941177, 0.00941177, 0.5094118, 0.5094118], abs=1e-6)
    assert found.index[0].tolist() == [0, 1, -1]
    alone = WeightedFusion(max_detections=3, score="max")(both)
    assert alone.scores[0].tolist() == pytest.approx([0.9, 0.5, 0.0])


def test_rule_at_equality() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 3]]])
    rows = torch.arange(2).unsqueeze(0)
    pair = Candidates(boxes, torch.tensor([[0.9, 0.8]]), torch.zeros_like(rows), rows)
    assert WeightedFusion(iou_threshold=0.3)(pair).scores.count_nonzero() == 2
    assert WeightedFusion(iou_threshold=0.3, inclusive=True)(pair).scores.count_nonzero() == 1


def test_variance_is_the_mean_of_the_rows() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9]]])
    rows = torch.arange(2).unsqueeze(0)
    variance = torch.tensor([[[1.0, 2, 3, 4], [4, 4, 4, 4]]])
    found = WeightedFusion()(Candidates(boxes, torch.tensor([[0.6, 0.2]]), torch.zeros_like(rows), rows, variance))
    assert found.variance is not None
    assert found.variance[0, 0].tolist() == pytest.approx([1.75, 2.5, 3.25, 4.0])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"score": "sum"}, "expected one of 'mean', 'max', got 'sum'"),
        ({"sources": 0}, "sources: expected a whole number of at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused(bad: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WeightedFusion(**bad)  # type: ignore[arg-type]
