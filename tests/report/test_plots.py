"""Figures are written, and matplotlib stays out until one is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torso.evaluation.confusion import Confusion
from torso.evaluation.curves import Sweep
from torso.evaluation.detection import ClassScores
from torso.report.plots import plot_class_ap, plot_confusion, plot_f1, plot_precision_recall

pytest.importorskip("matplotlib")


def size(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def sweep(name: str, rows: int) -> Sweep:
    falling = np.linspace(0.9, 0.1, rows)
    return Sweep(name, falling, falling, 1 - falling, np.full(rows, 0.5), objects=5)


@pytest.mark.parametrize("classes", [1, 40])
def test_few_and_many_classes(tmp_path: Path, classes: int) -> None:
    scores = [ClassScores(f"class {n}", n, 0.3, 0.5, 0.2, 0.4, boxes=3, detections=9) for n in range(classes)]
    plot_class_ap(scores, tmp_path / "ap.png")
    names = tuple(one.name for one in scores)
    plot_confusion(Confusion(names, np.eye(classes + 1, dtype=np.int64), 0.5, 0.5), tmp_path / "confusion.png")
    sweeps = [*(sweep(name, 20) for name in names), sweep("all classes", 30)]
    plot_precision_recall(sweeps, tmp_path / "pr.png", iou=0.5)
    plot_f1(sweeps, tmp_path / "f1.png", iou=0.5)
    for name in ("ap", "confusion", "pr", "f1"):
        assert min(size(tmp_path / f"{name}.png")) > 300


def test_nothing_found_still_gives_figures(tmp_path: Path) -> None:
    plot_precision_recall([sweep("a", 0), sweep("all classes", 0)], tmp_path / "pr.png", iou=0.5)
    plot_f1([sweep("all classes", 0)], tmp_path / "f1.png", iou=0.5)
    assert (tmp_path / "pr.png").is_file()


def test_matplotlib_and_scikit_learn_are_imported_late() -> None:
    code = (
        "import sys, torso.report.report, torso.data.digits, torso.evaluation.detection;"
        "sys.exit(any(name in sys.modules for name in ('matplotlib', 'sklearn', 'supervision')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
