"""One library's training or judgement in a process of its own, as benchmarks/wild.py starts it.

    _wild_peers.py train LIBRARY SETTINGS      SETTINGS: JSON, see `train`
    _wild_peers.py evaluate LIBRARY SETTINGS

The moment of the first optimizer step is taken from torch itself (a hook on every optimizer), not from a library's log.
Peers are called through what their documentation shows. polars, a large wheel that Ultralytics wants for reading its
own results.csv, is stood in for where it is missing.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

CONFIDENCE, MOST = 0.001, 300

Settings = dict[str, Any]


def stamp_first_step(file: Path) -> None:
    """Write the time of the first optimizer step into the file."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    def stamp(*_: Any) -> None:
        handle.remove()
        file.write_text(str(time.time()))

    handle = register_optimizer_step_post_hook(stamp)


def stand_in_for_polars() -> None:
    """As much of polars as reads a CSV by columns, where it is not installed."""
    if importlib.util.find_spec("polars") is not None:
        return

    class Frame:
        def __init__(self, path: str) -> None:
            with open(path, newline="") as file:
                head, *self.rows = list(csv.reader(file))
            self.columns = [name.strip() for name in head]

        def to_dict(self, as_series: bool = False) -> dict[str, list[str]]:
            return {name: [row[i] for row in self.rows] for i, name in enumerate(self.columns)}

    module: Any = types.ModuleType("polars")
    module.read_csv, module.DataFrame, module.__version__ = lambda path, **_: Frame(path), Frame, "1.0"
    sys.modules["polars"] = module


def load(library: str, model: str | None, best: str | None = None) -> Any:
    """A model of the library: untrained by its name, or from its own weights."""
    if library == "ultralytics":
        stand_in_for_polars()
        from ultralytics import YOLO

        return YOLO(best or model)
    import libreyolo

    name, _, size = str(model).partition("-")
    return getattr(libreyolo, name)(best, size=size)


def train(library: str, settings: Settings) -> int:
    """settings: run, arguments (torso), or model, data (data.yaml), run, seed, epochs, imgsz, workers, device."""
    run = Path(settings["run"])
    stamp_first_step(Path(settings["stamp"]))
    if library == "torso":
        from torso.cli.main import main

        return main(settings["arguments"])
    names = ("data", "seed", "epochs", "imgsz", "workers", "device")
    given = {name: settings[name] for name in names} | {"batch": 16, "exist_ok": True}
    if library == "ultralytics":
        given |= {"plots": False, "verbose": False, "pretrained": False}
    load(library, settings["model"]).train(project=str(run.parent), name=run.name, **given)
    return 0


def evaluate(library: str, settings: Settings) -> int:
    """AP and AP50 of the library's own best weights on test, by faster-coco-eval, into settings["scores"]."""
    from faster_coco_eval import COCO, COCOeval_faster

    folder = Path(settings["images"])
    truth = COCO(settings["truth"])
    ids = sorted(truth.getCatIds())
    weights = Path(settings["run"]) / "weights"
    kept = next(weights / name for name in ("best.pt", "last.pt") if (weights / name).is_file())
    model = load(library, settings["model"], str(kept))
    given = {"conf": CONFIDENCE, "max_det": MOST, "imgsz": settings["imgsz"]}
    if library == "ultralytics":
        given |= {"verbose": False, "device": settings["device"]}
    found = []
    for image in truth.dataset["images"]:
        result = model.predict(str(folder / image["file_name"]), **given)
        boxes = (result[0] if isinstance(result, list) else result).boxes
        rows = zip(boxes.xyxy.tolist(), boxes.conf.tolist(), boxes.cls.tolist(), strict=True)
        found += [found_row(image["id"], ids[int(label)], box, score) for box, score, label in rows]
    scores = {"AP": 0.0, "AP50": 0.0, "found": len(found), "weights": kept.name}
    if found:
        evaluation = COCOeval_faster(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
        scores |= {"AP": float(evaluation.stats[0]), "AP50": float(evaluation.stats[1])}
    Path(settings["scores"]).write_text(json.dumps(scores))
    return 0


def found_row(image_id: int, category_id: int, box: list[float], score: float) -> dict[str, Any]:
    """One detection as COCO results have it; box: xyxy."""
    x1, y1, x2, y2 = box
    return {"image_id": image_id, "category_id": category_id, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}


if __name__ == "__main__":
    work = {"train": train, "evaluate": evaluate}[sys.argv[1]]
    sys.exit(work(sys.argv[2], json.loads(sys.argv[3])))
