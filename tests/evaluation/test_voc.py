"""VOC AP: the known answers of an independent tool, the devkit's rules, and real detector outputs in four formats."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torso.evaluation.voc import evaluate_voc

PUBLISHED = {
    True: {0.1: 0.3333333333, 0.3: 0.2683982683, 0.5: 0.0303030303, 0.75: 0.0},
    False: {0.1: 0.3371980676, 0.3: 0.2456866804, 0.5: 0.0222222222, 0.75: 0.0},
}


def oracle_case(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    files = sorted((folder / "gts").glob("*.txt"))
    truth: dict[str, Any] = {
        "images": [{"id": n, "file_name": one.stem} for n, one in enumerate(files)],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [],
    }
    results = []
    for n, one in enumerate(files):
        for line in one.read_text().split("\n"):
            if line.strip():
                box = [float(v) for v in line.split()[1:]]
                truth["annotations"].append({"id": 1, "image_id": n, "category_id": 1, "bbox": box})
        for line in (folder / "dets" / one.name).read_text().split("\n"):
            if line.strip():
                score, *box = (float(v) for v in line.split()[1:])
                results.append({"image_id": n, "category_id": 1, "bbox": box, "score": score})
    return truth, results


@pytest.mark.parametrize("eleven_points", [True, False])
@pytest.mark.parametrize("iou", [0.1, 0.3, 0.5, 0.75])
def test_published_answers(shared_data: Path, eleven_points: bool, iou: float) -> None:
    truth, results = oracle_case(shared_data / "eval_oracles" / "test_case_1")
    assert len(truth["annotations"]) == 15
    scores = evaluate_voc(truth, results, iou=iou, eleven_points=eleven_points, plus_one=True)
    assert math.floor(scores.mAP * 1e10) / 1e10 == PUBLISHED[eleven_points][iou]  # the source cuts, it does not round


def case(objects: list[tuple[list[float], int]], found: list[tuple[list[float], float]]) -> tuple[Any, Any]:
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 1, "bbox": box, "difficult": hard}
            for n, (box, hard) in enumerate(objects)
        ],
    }
    return truth, [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for box, score in found]


A, B, C = [0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 10.0, 10.0], [0.0, 50.0, 10.0, 10.0]


def test_difficult_objects_count_for_nothing() -> None:
    truth, results = case([(A, 0), (B, 1)], [(B, 0.9), (B, 0.8), (A, 0.7)])
    scores = evaluate_voc(truth, results)
    assert scores.mAP == 1.0
    assert scores.per_class[0].objects == 1
    easy, _ = case([(A, 0), (B, 0)], [])
    assert evaluate_voc(easy, results).mAP == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_second_detection_of_an_object_is_false() -> None:
    truth, results = case([(A, 0), (B, 0)], [(A, 0.9), (A, 0.8), (B, 0.7)])
    assert evaluate_voc(truth, results).mAP == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert evaluate_voc(truth, results, eleven_points=True).mAP == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_it_takes_the_best_object_even_if_taken() -> None:
    near = [1.0, 0.0, 10.0, 10.0]  # overlaps A best, and B2 enough
    b2 = [3.0, 0.0, 10.0, 10.0]
    truth, results = case([(A, 0), (b2, 0)], [(A, 0.9), (near, 0.8)])
    assert evaluate_voc(truth, results).mAP == pytest.approx(0.5)  # COCO's rule would match b2


def test_iou_just_reached_counts_and_plus_one_changes_it() -> None:
    truth, results = case([([0.0, 0.0, 10.0, 10.0], 0)], [([0.0, 0.0, 10.0, 5.0], 0.5)])
    assert evaluate_voc(truth, results, iou=0.5).mAP == 1.0
    assert evaluate_voc(truth, results, iou=0.52).mAP == 0.0
    assert evaluate_voc(truth, results, iou=0.52, plus_one=True).mAP == 1.0  # 11 * 6 / 11 * 11 = 0.545


def test_eleven_points_are_those_of_the_python_ports() -> None:
    """recall 3 / 10 >= 3 * 0.1 is false in floats: the point of 0.3 counts nothing."""
    objects = [([50.0 * n, 0.0, 10.0, 10.0], 0) for n in range(10)]
    truth, results = case(objects, [(box, 0.9 - 0.1 * n) for n, (box, _) in enumerate(objects[:3])])
    assert evaluate_voc(truth, results, eleven_points=True).mAP == pytest.approx(3 / 11)


def test_empty_results_classes_without_objects_and_bad_iou() -> None:
    truth, results = case([(A, 0)], [])
    assert evaluate_voc(truth, results).mAP == 0.0
    nothing, results = case([(A, 1)], [(C, 0.5)])
    assert math.isnan(evaluate_voc(nothing, results).mAP)
    with pytest.raises(ValueError, match="wanted a number above 0"):
        evaluate_voc(truth, [], iou=0.0)


def voc100_detections(root: Path, form: str, image_id: dict[str, int], sizes: dict[str, tuple[int, int]]) -> list[Any]:
    found = []
    for file in sorted((root / "original" / "dets" / form).glob("*.txt")):
        for line in file.read_text().splitlines():
            label, score, a, b, c, d = (float(v) for v in line.split())
            w, h = sizes[file.stem]
            box = {
                "abs_xywh": [a, b, c, d],
                "abs_xyx2y2": [a, b, c - a, d - b],
                "rel_xywh": [(a - c / 2) * w, (b - d / 2) * h, c * w, d * h],
            }[form]
            found.append({"image_id": image_id[file.stem], "category_id": int(label) + 1, "bbox": box, "score": score})
    return found


def voc100_coco_detections(root: Path, ids: dict[str, int], image_id: dict[str, int]) -> list[Any]:
    """The same from COCO's format, whose file has its own ids of images and of classes."""
    said = json.loads((root / "original" / "dets" / "coco_format" / "coco_dets.json").read_text())
    names = {one["id"]: one["name"] for one in said["categories"]}
    stems = {one["id"]: Path(one["file_name"]).stem for one in said["images"]}
    return [
        {"image_id": image_id[stems[one["image_id"]]], "category_id": ids[names[one["category_id"]]],
         "bbox": one["bbox"], "score": one["score"]}
        for one in said["annotations"]
    ]  # fmt: skip


def test_real_detector_outputs_of_four_formats_agree(shared_data: Path) -> None:
    root = shared_data / "voc100_all_formats"
    truth = json.loads((root / "all.json").read_text())
    names = (root / "original" / "voc.names").read_text().split()
    by_name = {one["name"]: one["id"] for one in truth["categories"]}
    assert [by_name[name] for name in names] == list(range(1, 21))  # the detector's labels are in this order
    stems = {Path(one["file_name"]).stem: one["id"] for one in truth["images"]}
    sizes = {Path(one["file_name"]).stem: (one["width"], one["height"]) for one in truth["images"]}
    scores = {
        form: evaluate_voc(truth, voc100_detections(root, form, stems, sizes)).mAP
        for form in ("abs_xywh", "abs_xyx2y2", "rel_xywh")
    }
    scores["coco"] = evaluate_voc(truth, voc100_coco_detections(root, by_name, stems)).mAP
    assert 0.5 < scores["abs_xywh"] < 1.0
    assert np.ptp(list(scores.values())) < 1e-9, scores


def iou_of(a: list[float], b: list[float], extra: float) -> float:
    """Of two boxes x, y, w, h; extra 1: the devkit's sides."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) + extra
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) + extra
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] + extra) * (a[3] + extra) + (b[2] + extra) * (b[3] + extra) - w * h)


def plain_ap(truth: dict[str, Any], found: list[dict[str, Any]], category: int, iou: float, *, old: bool) -> float:
    """AP of one class, detection by detection, as the devkit's text says it."""
    objects = [one for one in truth["annotations"] if one["category_id"] == category]
    counted = sum(not one.get("difficult", 0) for one in objects)
    used: set[int] = set()
    hits: list[bool] = []
    for one in sorted((f for f in found if f["category_id"] == category), key=lambda f: -f["score"]):
        near = [
            (iou_of(one["bbox"], o["bbox"], 0.0), -n) for n, o in enumerate(objects) if o["image_id"] == one["image_id"]
        ]
        best, row = max(near, default=(0.0, 0))
        if best >= iou and objects[-row].get("difficult", 0):
            continue
        hits.append(best >= iou and -row not in used)
        used |= {-row} if hits[-1] else set()
    recalls, precisions = [], []
    for n in range(1, len(hits) + 1):
        recalls.append(sum(hits[:n]) / counted)
        precisions.append(sum(hits[:n]) / n)
    if old:
        points = [
            max([p for r, p in zip(recalls, precisions, strict=True) if r >= k * 0.1], default=0.0) for k in range(11)
        ]
        return sum(points) / 11
    total, before = 0.0, 0.0
    for n, recall in enumerate(recalls):
        total += (recall - before) * max(precisions[n:])
        before = recall
    return total


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("old", [True, False])
def test_real_detections_give_what_the_rules_read_aloud_give(shared_data: Path, old: bool, iou: float) -> None:
    root = shared_data / "voc100_all_formats"
    truth = json.loads((root / "all.json").read_text())
    stems = {Path(one["file_name"]).stem: one["id"] for one in truth["images"]}
    sizes = {Path(one["file_name"]).stem: (one["width"], one["height"]) for one in truth["images"]}
    found = voc100_detections(root, "abs_xywh", stems, sizes)
    scores = evaluate_voc(truth, found, iou=iou, eleven_points=old)
    names = {one["name"]: one["id"] for one in truth["categories"]}
    assert sum(one.objects > 0 for one in scores.per_class) == 20
    for one in scores.per_class:
        wanted = plain_ap(truth, found, names[one.name], iou, old=old)
        assert abs(one.AP - wanted) < 1e-12, one.name
