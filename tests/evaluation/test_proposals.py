"""Class-agnostic recall: by hand on small cases, and by pycocotools with useCats = 0."""

from __future__ import annotations

import pytest
from evaluation_cases import noisy, pycocotools_run, random_truth

from torso.evaluation.proposals import evaluate_proposals


def test_recall_by_hand() -> None:
    boxes = [[0.0, 0, 10, 10], [50.0, 0, 10, 10], [0.0, 50, 10, 10], [50.0, 50, 10, 10]]
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1 + n % 2, "bbox": box} for n, box in enumerate(boxes)],
    }
    found = [boxes[0], boxes[1], [0.0, 50, 10, 6]]  # the third has IoU 0.6
    results = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9 - 0.1 * n} for n, box in enumerate(found)]
    scores = evaluate_proposals(truth, results, limits=(1, 2, 100))
    assert scores.recall_at(0.5, 100) == 0.75
    assert scores.recall_at(0.75, 100) == 0.5
    assert scores.recall_at(0.5, 1) == 0.25
    assert scores.average_recall[100] == pytest.approx((3 * 0.75 + 7 * 0.5) / 10)
    with pytest.raises(ValueError, match="no recall at IoU"):
        scores.recall_at(0.33, 100)


def test_classes_do_not_matter_and_nothing_found_is_zero() -> None:
    truth = random_truth(3)
    results = noisy(truth, 4)
    one_class = [{**one, "category_id": truth["categories"][0]["id"]} for one in results]
    assert evaluate_proposals(truth, results).average_recall == evaluate_proposals(truth, one_class).average_recall
    assert evaluate_proposals(truth, []).recall_at(0.5, 100) == 0.0


def test_equal_to_pycocotools_without_classes() -> None:
    truth = random_truth(3)
    flat = {
        **truth,
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [{**one, "category_id": 1} for one in truth["annotations"]],
    }
    results = [{**one, "category_id": 1} for one in noisy(truth, 4)]
    oracle = pycocotools_run(flat, results).stats
    scores = evaluate_proposals(flat, results, limits=(1, 10, 100))
    assert list(scores.average_recall.values()) == oracle[6:9].tolist()
