"""COCOeval on copies of our flat arrays: the bridge to faster-coco-eval.

Its recall is pycocotools' to the last bit, its precision to 2.3e-16: pycocotools adds spacing(1) to tp + fp, so that
its precision of a single true detection is 1 - 2.2e-16.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from typing import Any

from faster_coco_eval import COCO, COCOeval_faster

from torso.evaluation.results import Results
from torso.evaluation.truth import GroundTruth


def run_coco(
    truth: GroundTruth,
    results: Results,
    image_rows: Sequence[int],
    *,
    limits: tuple[int, ...] = (1, 10, 100),
) -> COCOeval_faster:
    """An evaluated and accumulated COCOeval, its data let go; limits: detections an image (and class)."""
    with _no_collection():
        run = COCOeval_faster(_coco_truth(truth), _coco_results(truth, results), "bbox", print_function=_silent)
        run.params.imgIds = truth.image_ids[list(image_rows)].tolist()
        run.params.maxDets = list(limits)
        run.evaluate()
        run.accumulate()
        # what is evaluated is counted: half a million dicts go before the garbage collector would walk over them
        run.cocoGt = run.cocoDt = None
        run.gt_dataset.clean()
        run.dt_dataset.clean()
        run.ious.clear()
    return run


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, which half a million small dicts would start again and again for nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _silent(_: object) -> None:
    return None


def _coco_truth(truth: GroundTruth) -> COCO:
    """Annotation ids are given anew from 1: COCOeval takes an annotation with id 0 for no match."""
    rows = zip(
        truth.image_ids[truth.image].tolist(), truth.category_ids[truth.label].tolist(),
        truth.xywh.tolist(), truth.area.tolist(), truth.crowd.tolist(), strict=True,
    )  # fmt: skip
    annotations = [
        {"id": n, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for n, (image, label, box, area, crowd) in enumerate(rows, start=1)
    ]
    return _coco(truth, annotations)


def _coco_results(truth: GroundTruth, results: Results) -> COCO:
    rows = zip(
        truth.image_ids[results.image].tolist(), truth.category_ids[results.label].tolist(), results.xywh.tolist(),
        (results.xywh[:, 2] * results.xywh[:, 3]).tolist(), results.score.tolist(), strict=True,
    )  # fmt: skip
    found = [
        {"id": n, "image_id": image, "category_id": label, "bbox": box, "area": area, "score": score, "iscrowd": 0}
        for n, (image, label, box, area, score) in enumerate(rows, start=1)
    ]
    return _coco(truth, found)


def _coco(truth: GroundTruth, annotations: list[dict[str, Any]]) -> COCO:
    pairs = zip(truth.category_ids.tolist(), truth.names, strict=True)
    return COCO(
        {
            "images": [{"id": one} for one in truth.image_ids.tolist()],
            "categories": [{"id": one, "name": name} for one, name in pairs],
            "annotations": annotations,
        },
        print_function=_silent,
    )
