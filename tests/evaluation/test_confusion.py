"""Confusion table and per-image scores on cases counted by hand."""

from __future__ import annotations

import pytest
from evaluation_cases import noisy, random_truth

from torso.evaluation.confusion import confusion, image_f1

TRUTH = {
    "images": [{"id": 1}, {"id": 2}, {"id": 3}],
    "categories": [{"id": 10, "name": "a"}, {"id": 20, "name": "b"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 10, "bbox": [0, 0, 10, 10]},
        {"id": 2, "image_id": 1, "category_id": 20, "bbox": [50, 0, 10, 10]},
        {"id": 3, "image_id": 1, "category_id": 20, "bbox": [0, 50, 10, 10]},
        {"id": 4, "image_id": 2, "category_id": 10, "bbox": [0, 0, 50, 50], "iscrowd": 1},
    ],
}
RESULTS = [
    {"image_id": 1, "category_id": 10, "bbox": [0, 0, 10, 10], "score": 0.9},  # right
    {"image_id": 1, "category_id": 10, "bbox": [50, 0, 10, 10], "score": 0.8},  # b taken for a
    {"image_id": 1, "category_id": 20, "bbox": [80, 80, 10, 10], "score": 0.8},  # nothing there
    {"image_id": 1, "category_id": 20, "bbox": [0, 50, 10, 10], "score": 0.2},  # below the threshold
    {"image_id": 2, "category_id": 10, "bbox": [5, 5, 10, 10], "score": 0.9},  # in a crowd
]


def test_table_by_hand() -> None:
    table = confusion(TRUTH, RESULTS, score=0.5)
    assert table.counts.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert table.names == ("a", "b")


def test_every_object_is_in_one_cell() -> None:
    truth = random_truth(1)
    counts = confusion(truth, noisy(truth, 2), score=0.3).counts
    objects = sum(not one["iscrowd"] for one in truth["annotations"])
    assert counts[:-1].sum() == objects
    assert counts[-1, -1] == 0


def test_a_pair_of_the_same_class_goes_first_among_equals() -> None:
    both = [{**RESULTS[0], "category_id": 20}, RESULTS[0]]
    assert confusion(TRUTH, both, score=0.5).counts.tolist() == [[1, 0, 0], [0, 0, 2], [0, 1, 0]]


def test_image_f1_by_hand() -> None:
    scores = image_f1(TRUTH, RESULTS, score=0.5)
    assert scores.tolist() == pytest.approx([2 * 1 / (3 + 3), 1.0, 1.0])
    assert image_f1(TRUTH, [], score=0.5).tolist() == [0.0, 1.0, 1.0]
