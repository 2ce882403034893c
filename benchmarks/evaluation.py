"""COCO evaluation of detections end to end, beside plain faster-coco-eval and pycocotools on the same detections.

    python benchmarks/evaluation.py --out benchmarks/results/cpu/evaluation.json                       # 5,000 images
    python benchmarks/evaluation.py --images 200 --repeats 1 --skip-pycocotools --out /tmp/e.json      # small

Each starts from Detections, image by image, as a model leaves them (the peer's have to be made COCO results first),
and from a list of COCO results in memory. Ours gives the twelve numbers and AP of each class, the peers the twelve
alone, which are compared. Seconds are medians, each repeat in turn for all: of the clock, and of the processor, which
other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torso.evaluation.detection import DetectionEvaluator, evaluate_detections
from torso.evaluation.truth import as_truth
from torso.inference.detections import Detections

CLASSES, OBJECTS = 80, 7.3  # COCO val2017 has 36,781 boxes on 5,000 images


def make_truth(images: int, rng: np.random.Generator) -> dict[str, Any]:
    """Images of 640 x 480 with as many objects as COCO's."""
    annotations = []
    for image in range(1, images + 1):
        for _ in range(int(rng.poisson(OBJECTS))):
            w, h = np.exp(rng.uniform(2, 5.8, 2))
            x, y = rng.uniform(0, 640 - w / 2), rng.uniform(0, 480 - h / 2)
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": int(rng.integers(CLASSES)) + 1,
                "bbox": [float(v) for v in (x, y, w, h)], "area": float(w * h), "iscrowd": int(rng.random() < 0.01),
            })  # fmt: skip
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(1, images + 1)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES + 1)],
        "annotations": annotations,
    }


def make_detections(truth: dict[str, Any], per_image: int, rng: np.random.Generator) -> list[Detections]:
    """Of each image: its objects, moved and several times over, then noise; so many in all."""
    names = tuple(one["name"] for one in truth["categories"])
    by_image: dict[int, list[dict[str, Any]]] = {one["id"]: [] for one in truth["images"]}
    for one in truth["annotations"]:
        by_image[one["image_id"]].append(one)
    found = []
    for objects in by_image.values():
        boxes = np.concatenate([rng.uniform(0, 400, (per_image, 2)), np.exp(rng.uniform(2, 5.8, (per_image, 2)))], 1)
        labels = rng.integers(0, CLASSES, per_image)
        for row, one in enumerate((objects * 5)[: per_image * 2 // 3]):
            boxes[row] = np.array(one["bbox"]) * np.exp(rng.normal(0, 0.1, 4))
            labels[row] = one["category_id"] - 1
        scores = np.sort(rng.random(per_image))[::-1].astype(np.float32)
        corners = torch.from_numpy(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)).float()
        found.append(Detections(
            boxes=corners, scores=torch.from_numpy(scores.copy()), labels=torch.from_numpy(labels), names=names,
            image_size_hw=(480, 640),
        ))  # fmt: skip
    return found


def as_results(truth: dict[str, Any], detections: list[Detections]) -> list[dict[str, Any]]:
    """The same as a list of COCO results."""
    rows = []
    for image, one in zip(truth["images"], detections, strict=True):
        corners = one.boxes.double().numpy()
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
        for box, score, label in zip(boxes, one.scores.double().tolist(), one.labels.tolist(), strict=True):
            rows.append({"image_id": image["id"], "category_id": label + 1, "bbox": box, "score": score})
    return rows


def ours(truth: dict[str, Any], detections: list[Detections]) -> list[float]:
    """From Detections."""
    evaluate = DetectionEvaluator(as_truth(truth))
    for row, one in enumerate(detections):
        evaluate.add(row, one)
    return list(evaluate.compute().stats)


def peer(truth: dict[str, Any], results: list[dict[str, Any]], library: str) -> list[float]:
    """A library's own COCO and COCOeval."""
    with contextlib.redirect_stdout(io.StringIO()):
        if library == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval

            actual = COCO()
            actual.dataset = truth
            actual.createIndex()
            run = COCOeval(actual, actual.loadRes(results), "bbox")
        else:
            from faster_coco_eval import COCO, COCOeval_faster

            actual = COCO(truth)
            run = COCOeval_faster(actual, actual.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(v) for v in run.stats[:12]]


def main() -> None:
    """Measure, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="an image")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-pycocotools", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    truth = make_truth(args.images, rng)
    detections = make_detections(truth, args.detections, rng)
    results = as_results(truth, detections)
    calls: dict[str, Callable[[], list[float]]] = {
        "torso, from Detections": lambda: ours(truth, detections),
        "torso, from COCO results": lambda: list(evaluate_detections(truth, results).stats),
        "faster-coco-eval, from Detections": lambda: peer(truth, as_results(truth, detections), "faster"),
        "faster-coco-eval, from COCO results": lambda: peer(truth, results, "faster"),
    }
    if not args.skip_pycocotools:
        calls["pycocotools, from COCO results"] = lambda: peer(truth, results, "pycocotools")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    processor: dict[str, list[float]] = {name: [] for name in calls}
    stats = {}
    for _ in range(args.repeats):
        for name, call in calls.items():
            start, busy = time.perf_counter(), time.process_time()
            stats[name] = call()
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - busy)
    theirs = np.array(stats["faster-coco-eval, from COCO results"])
    report = {
        "images": args.images, "detections": len(results), "objects": len(truth["annotations"]),
        "cores": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version(),
        "seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "processor_seconds": {name: statistics.median(times) for name, times in processor.items()},
        "all": {"seconds": seconds, "processor_seconds": processor},
        "difference": {name: float(np.abs(np.array(one) - theirs).max()) for name, one in stats.items()},
        "AP": float(theirs[0]),
    }  # fmt: skip
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    for name, value in report["seconds"].items():  # type: ignore[attr-defined]
        busy = report["processor_seconds"][name]  # type: ignore[index]
        difference = report["difference"][name]  # type: ignore[index]
        print(f"{name:36} {value:7.2f} s, processor {busy:7.2f} s  difference {difference:.1e}")


if __name__ == "__main__":
    main()
