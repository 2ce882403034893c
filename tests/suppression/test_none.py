"""No suppression: ranking, cutting and padding alone."""

from __future__ import annotations

import pytest
import torch

from torso.suppression.none import NoSuppression

from .cases import cases
from .reference import random_candidates


def test_best_rows_first_whatever_overlaps() -> None:
    assert NoSuppression(max_detections=3)(cases()["the golden four"]).index.tolist() == [[0, 1, 2]]
    assert NoSuppression()(cases()["all the same box"]).scores.count_nonzero() == 70


def test_ties_keep_their_order_and_missing_rows_are_empty() -> None:
    candidates = random_candidates(0, 2, 40, 2)
    found = NoSuppression(max_detections=60, score_threshold=0.5)(candidates)
    for image in range(2):
        scores = candidates.scores[image].tolist()
        rows = sorted((i for i in range(40) if scores[i] > 0.5), key=lambda i: (-scores[i], i))
        assert found.index[image].tolist() == [1000 + i for i in rows] + [-1] * (60 - len(rows))
    assert found.variance is not None
    assert found.variance.shape == (2, 60, 4)
    assert torch.equal(found.scores.sort(dim=1, descending=True).values, found.scores)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="max_detections: expected a whole number of at least 1, got 0"):
        NoSuppression(max_detections=0)
    with pytest.raises(ValueError, match="score_threshold: expected a number of at least 0 and below 1"):
        NoSuppression(score_threshold=3.0)
