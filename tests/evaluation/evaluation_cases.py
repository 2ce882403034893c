"""Synthetic truth, noisy detections and the oracle of the evaluation tests."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
import pytest


def random_truth(seed: int, images: int = 30, classes: int = 5, crowds: bool = True) -> dict[str, Any]:
    """A COCO dict with ids that have gaps, areas smaller than the box (as masks have), crowds and empty images."""
    rng = np.random.default_rng(seed)
    image_ids = rng.permutation(np.arange(3, 3 + 7 * images, 7)).tolist()
    category_ids = rng.permutation(np.arange(2, 2 + 3 * classes, 3)).tolist()
    annotations: list[dict[str, Any]] = []
    for image in image_ids:
        for _ in range(int(rng.integers(0, 12))):
            side = rng.uniform(5, 180, 2)
            corner = rng.uniform(0, 400, 2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(rng.choice(category_ids)),
                    "bbox": [*corner.tolist(), *side.tolist()],
                    "area": float(side.prod() * rng.uniform(0.4, 1)),
                    "iscrowd": int(crowds and rng.random() < 0.1),
                }
            )
    return {
        "images": [{"id": one, "width": 640, "height": 640, "file_name": f"{one}.jpg"} for one in image_ids],
        "categories": [{"id": one, "name": f"class {one}"} for one in category_ids],
        "annotations": annotations,
    }


def noisy(truth: dict[str, Any], seed: int, extra: int = 4, noise: float = 0.12) -> list[dict[str, Any]]:
    """Detections: most objects moved a little, some twice, some of a wrong class, some false, many equal scores."""
    rng = np.random.default_rng(seed)
    categories = [one["id"] for one in truth["categories"]]
    results = []

    def add(image: int, category: int, box: np.ndarray) -> None:
        box = np.array([*box[:2], *np.clip(box[2:], 0.5, None)])
        score = float(np.round(rng.random(), 2))
        results.append({"image_id": image, "category_id": category, "bbox": box.tolist(), "score": score})

    for one in truth["annotations"]:
        box = np.array(one["bbox"], dtype=np.float64)
        for _ in range(int(rng.integers(0, 3))):
            moved = box + rng.normal(0, noise, 4) * np.tile(box[2:], 2) * rng.choice([0.2, 1.0])
            add(one["image_id"], one["category_id"] if rng.random() < 0.85 else int(rng.choice(categories)), moved)
    for image in truth["images"]:
        for _ in range(extra):
            box = np.concatenate([rng.uniform(0, 400, 2), rng.uniform(5, 150, 2)])
            add(image["id"], int(rng.choice(categories)), box)
    return results


def pycocotools_run(truth: dict[str, Any], results: list[dict[str, Any]], image_ids: list[int] | None = None) -> Any:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        evaluate = coco.COCO()
        evaluate.dataset = copy.deepcopy(truth)
        evaluate.createIndex()
        found = coco.COCO()
        found.dataset = copy.deepcopy({**truth, "annotations": []})
        found.createIndex()
        if results:
            found = evaluate.loadRes(copy.deepcopy(results))
        run = cocoeval.COCOeval(evaluate, found, "bbox")
        if image_ids is not None:
            run.params.imgIds = image_ids
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run
