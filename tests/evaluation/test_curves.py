"""Score sweeps: their area is COCO's AP50, thresholds mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_cases import noisy, random_truth

from torso.evaluation.curves import pooled_threshold, sweep_scores
from torso.evaluation.detection import evaluate_detections


@pytest.mark.parametrize("seed", [0, 1])
def test_the_sweep_contains_cocos_ap50(seed: int) -> None:
    truth = random_truth(seed)
    results = noisy(truth, seed)
    rng = np.random.default_rng(0)
    unequal = [{**one, "score": float(rng.random())} for one in results]  # COCO goes through equal scores one by one
    scores = evaluate_detections(truth, unequal)
    for sweep, one in zip(sweep_scores(truth, unequal), scores.per_class, strict=False):
        envelope = np.maximum.accumulate(sweep.precision[::-1])[::-1]
        rows = np.searchsorted(sweep.recall, np.linspace(0, 1, 101), side="left")
        ap = np.append(envelope, 0.0)[rows].mean()
        assert sweep.objects == one.boxes
        assert ap == pytest.approx(one.AP50, abs=1e-9)


def test_a_row_is_what_remains_at_its_threshold() -> None:
    truth = random_truth(3)
    results = noisy(truth, 4)
    together = sweep_scores(truth, results)[-1]
    row = len(together.threshold) // 2
    kept = [one for one in results if one["score"] >= together.threshold[row]]
    cut = sweep_scores(truth, kept)[-1]
    assert (cut.precision[-1], cut.recall[-1]) == (together.precision[row], together.recall[row])
    assert np.all(np.diff(together.threshold) < 0)
    assert np.all(np.diff(together.recall) >= 0)


def test_best_threshold_and_empty_results() -> None:
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}],
    }
    found = [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.7},
        {"image_id": 1, "category_id": 1, "bbox": [50, 0, 10, 10], "score": 0.4},
    ]
    first, second, together = sweep_scores(truth, found)
    assert first.best_threshold == together.best_threshold == 0.7
    assert first.f1.tolist() == pytest.approx([1.0, 2 / 3])
    assert second.best_threshold is None
    assert pooled_threshold(sweep_scores(truth, found)) == 0.7
    assert pooled_threshold(sweep_scores(truth, []), default=0.3) == 0.3
