"""COCO scores: equal to pycocotools to the last bit, on real and synthetic truth; bad results are refused."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_cases import noisy, pycocotools_run, random_truth

from torso.data.annotations import Box, ImageBoxes, pack
from torso.evaluation.detection import STATS, DetectionEvaluator, DetectionScores, evaluate_detections
from torso.inference.detections import Detections


def assert_same(scores: DetectionScores, oracle: Any) -> None:
    """Recall to the last bit; AP to a few units in the last place (why: torso.evaluation.coco)."""
    assert scores.stats[6:] == tuple(oracle.stats[6:].tolist())
    assert np.abs(np.array(scores.stats) - oracle.stats).max() <= 1e-15


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_pycocotools_on_random_data(seed: int) -> None:
    truth = random_truth(seed)
    results = noisy(truth, seed + 100)
    scores = evaluate_detections(truth, results)
    oracle = pycocotools_run(truth, results)
    assert_same(scores, oracle)
    assert 0.05 < scores.AP < 0.95  # neither side trivial


def test_equal_to_pycocotools_on_coco128_with_crowds(shared_data: Path) -> None:
    truth = json.loads((shared_data / "coco128" / "train.json").read_text())
    assert any(one["iscrowd"] for one in truth["annotations"])
    results = noisy(truth, 1)
    scores = evaluate_detections(truth, results)
    oracle = pycocotools_run(truth, results)
    assert_same(scores, oracle)
    assert (scores.images, scores.boxes, scores.crowds) == (128, 929, 10)


def test_many_detections_are_cut_to_a_hundred_as_pycocotools_does() -> None:
    truth = random_truth(7, images=3, classes=1)
    results = noisy(truth, 8, extra=150)
    assert_same(evaluate_detections(truth, results), pycocotools_run(truth, results))


def test_per_class_ap_equals_pycocotools() -> None:
    truth = random_truth(3)
    results = noisy(truth, 4)
    precision = pycocotools_run(truth, results).eval["precision"][:, :, :, 0, -1]
    ordered = sorted(one["id"] for one in truth["categories"])
    scores = evaluate_detections(truth, results)
    assert [one.category_id for one in scores.per_class] == [one["id"] for one in truth["categories"]]
    for one in scores.per_class:
        column = precision[:, :, ordered.index(one.category_id)]
        ours = (one.AP, one.AP50, one.AP75)
        assert ours == pytest.approx((column[column > -1].mean(), column[0].mean(), column[5].mean()), abs=1e-15, rel=0)
        assert one.boxes == sum(a["category_id"] == one.category_id and not a["iscrowd"] for a in truth["annotations"])


def test_no_detections_and_no_objects() -> None:
    truth = random_truth(0)
    assert_same(evaluate_detections(truth, []), pycocotools_run(truth, []))
    nothing = evaluate_detections({**truth, "annotations": []}, noisy(truth, 1))
    assert set(nothing.stats) == {-1.0}
    assert "-" in str(nothing)


def test_perfect_detections_score_one() -> None:
    truth = random_truth(2, crowds=False)
    results = [{**one, "score": 0.5} for one in truth["annotations"]]
    scores = evaluate_detections(truth, results)
    assert scores.stats == pytest.approx([1.0] * 6 + [scores.AR1, scores.AR10] + [1.0] * 4)


def test_annotation_id_zero_is_not_taken_for_no_match() -> None:
    truth = random_truth(2, images=4, crowds=False)
    zero_based = {**truth, "annotations": [{**one, "id": one["id"] - 1} for one in truth["annotations"]]}
    results = noisy(truth, 1)
    assert evaluate_detections(zero_based, results) == evaluate_detections(truth, results)


def test_the_annotations_area_decides_what_is_small() -> None:
    truth = random_truth(5, crowds=False)
    small = {**truth, "annotations": [{**one, "area": 10.0} for one in truth["annotations"]]}
    scores = evaluate_detections(small, noisy(truth, 1))
    assert scores.APs >= 0
    assert scores.APm == scores.APl == -1.0


def test_nothing_that_came_in_is_changed() -> None:
    truth = random_truth(1)
    results = noisy(truth, 1)
    before = copy.deepcopy((truth, results))
    evaluate_detections(truth, results)
    assert (truth, results) == before


def test_a_subset_of_images() -> None:
    truth = random_truth(6)
    results = noisy(truth, 1)
    some = [one["id"] for one in truth["images"][::3]]
    scores = evaluate_detections(truth, results, image_ids=some)
    assert_same(scores, pycocotools_run(truth, results, some))
    assert scores.images == len(some)
    with pytest.raises(ValueError, match="not in the data set"):
        evaluate_detections(truth, results, image_ids=[-5])


GOOD = {"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 5.0, 5.0], "score": 0.5}
ONE = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}], "annotations": []}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_id": 99}, "result 1: image_id 99"),
        ({"category_id": 99}, "result 1: category_id 99"),
        ({"bbox": [0, 0, float("nan"), 5]}, "four finite numbers"),
        ({"bbox": [0, 0, 5]}, "four finite numbers"),
        ({"bbox": [50, 50, -10, 20]}, "not corners"),
        ({"score": float("inf")}, "finite number"),
        ({"bbox": None}, "bbox is None; wanted four finite numbers"),
        ({"score": None}, "finite number"),
    ],
)
def test_bad_results_are_refused_by_row(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        evaluate_detections(ONE, [GOOD, {**GOOD, **change}])


def test_a_result_without_a_field_is_refused() -> None:
    with pytest.raises(ValueError, match="has no score"):
        evaluate_detections(ONE, [{k: v for k, v in GOOD.items() if k != "score"}])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": [{"id": 1}, {"id": 1}]}, "image id 1 occurs 2 times"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "category id 1 occurs"),
        ({"annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "image_id 2"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1]}]}, "category_id 2"),
    ],
)
def test_bad_truth_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        evaluate_detections({**ONE, **change}, [])


@pytest.mark.parametrize(
    ("change", "came"),
    [
        ({"bbox": None}, "bbox None"),
        ({"bbox": [5, 5, -3, 4]}, "bbox [5, 5, -3, 4]"),
        ({"bbox": [5, 5, 3, -4.5]}, "bbox [5, 5, 3, -4.5]"),
        ({"bbox": [5, 5, 3]}, "bbox [5, 5, 3]"),
        ({"bbox": [0, float("nan"), 1, 1]}, "bbox [0, nan, 1, 1]"),
        ({"bbox": [0, 0, 1, float("inf")]}, "bbox [0, 0, 1, inf]"),
        ({"bbox": ["a", 0, 1, 1]}, "bbox ['a', 0, 1, 1]"),
        ({"area": None}, "area None"),
        ({"area": -1.0}, "area -1.0"),
        ({"area": float("nan")}, "area nan"),
    ],
)
@pytest.mark.parametrize("others", [0, 2])
def test_a_bad_box_of_the_truth_is_named(change: dict[str, Any], came: str, others: int) -> None:
    """A negative side would otherwise make every AP -1 without a word."""
    good = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 0], "area": 3}
    objects = [good] * others + [{**good, "id": 17, **change}] + [good] * others
    wanted = "area in px^2 of 0 or more" if "area" in change else "[x, y, width, height], sides of 0 or more"
    with pytest.raises(ValueError, match=f"annotation 17 of image 1 has the {re.escape(came)}") as error:
        evaluate_detections({**ONE, "annotations": objects}, [])
    assert wanted in str(error.value)
    assert "correct or remove it" in str(error.value)


def test_a_truth_without_a_box_is_named() -> None:
    bare = {"id": 17, "image_id": 1, "category_id": 1}
    with pytest.raises(ValueError, match="annotation 17 of image 1 has the bbox None"):
        evaluate_detections({**ONE, "annotations": [bare]}, [])


def test_truth_without_a_section_is_refused() -> None:
    with pytest.raises(ValueError, match="has no categories"):
        evaluate_detections({"images": [], "annotations": []}, [])


def as_detections(truth: dict[str, Any], results: list[dict[str, Any]]) -> list[Detections]:
    ids = [one["id"] for one in truth["categories"]]
    names = tuple(one["name"] for one in truth["categories"])
    by_image: dict[int, list[dict[str, Any]]] = {one["id"]: [] for one in truth["images"]}
    for one in results:
        by_image[one["image_id"]].append(one)
    return [Detections.from_coco(found, names, ids) for found in by_image.values()]


def test_evaluator_agrees_with_result_dicts_in_any_order() -> None:
    truth = random_truth(8)
    results = noisy(truth, 9)
    evaluator = DetectionEvaluator(truth)
    for row, found in reversed(list(enumerate(as_detections(truth, results)))):
        evaluator.add(row, found)
    scores = evaluator.compute()
    wanted = evaluate_detections(truth, results)
    assert scores.stats == pytest.approx(wanted.stats, abs=1e-6)  # boxes went through float32
    assert scores.detections == wanted.detections


def test_evaluator_merges_ranks_and_counts_padded_images_once() -> None:
    truth = random_truth(8)
    found = as_detections(truth, noisy(truth, 9))
    whole, left, right = (DetectionEvaluator(truth) for _ in range(3))
    for row, one in enumerate(found):
        whole.add(row, one)
        (left if row % 2 == 0 else right).add(row, one)
    right.add(0, found[0])  # the sampler padded rank 1 with image 0
    right.add(1, found[1])
    assert left.merge([right.state()]).compute() == whole.compute()
    assert len(left) == len(found) - len(found) // 2  # merging left the parts alone


def test_evaluator_refuses_a_forgotten_part_unless_told() -> None:
    truth = random_truth(8)
    evaluator = DetectionEvaluator(truth)
    found = as_detections(truth, noisy(truth, 9))
    evaluator.add(2, found[2])
    with pytest.raises(ValueError, match="29 of 30 images were never added"):
        evaluator.compute()
    assert evaluator.compute(only_seen=True).images == 1
    with pytest.raises(ValueError, match="image_index is 30"):
        evaluator.add(30, found[0])


def test_evaluator_maps_classes_by_name() -> None:
    truth = {
        "images": [{"id": 5}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 3, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}],
    }
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 10]])
    found = Detections(boxes, torch.tensor([0.9, 0.8]), torch.tensor([2, 0]), ("dog", "cat", "bird"))
    with pytest.raises(ValueError, match="bird"):
        DetectionEvaluator(truth).add(0, found)
    evaluator = DetectionEvaluator(truth, drop_unknown=True)
    evaluator.add(0, found)
    assert [one["category_id"] for one in evaluator.results().to_coco(evaluator.truth)] == [3]
    assert evaluator.compute().per_class[1].AP50 > 0.999


def test_annotations_of_a_reader_serve_as_truth() -> None:
    truth = random_truth(4)
    label = {one["id"]: row for row, one in enumerate(truth["categories"])}
    images = [
        ImageBoxes(
            one["file_name"],
            one["id"],
            (640, 640),
            [
                Box((x, y, x + w, y + h), label[a["category_id"]], crowd=bool(a["iscrowd"]), area=a["area"])
                for a in truth["annotations"]
                if a["image_id"] == one["id"]
                for x, y, w, h in [a["bbox"]]
            ],
        )
        for one in truth["images"]
    ]
    classes = {one["name"]: one["id"] for one in truth["categories"]}
    annotations = pack(Path("."), "test", images, classes)
    results = noisy(truth, 5)
    assert evaluate_detections(annotations, results) == evaluate_detections(truth, results)


def test_scores_read_well_and_go_to_json() -> None:
    truth = random_truth(4)
    scores = evaluate_detections(truth, noisy(truth, 5))
    assert json.loads(json.dumps(scores.to_dict()))["AP"] == scores.AP
    text = str(scores)
    assert all(name in text for name in STATS)
    assert f"{100 * scores.AP50:.1f}" in text
    assert np.isclose(scores.stats[1], scores.AP50)
