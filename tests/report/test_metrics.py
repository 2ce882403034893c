"""metrics.csv of a run, as loggers really write it: blank cells, nan, several files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torso.report.metrics import find_metrics, read_metrics, smooth
from torso.report.plots import group_curves


def test_blank_and_bad_cells_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,train/loss,val/AP,empty\n0,0,1.5,,\n0,1,nan,,\n0,2,0.5,0.25,\n1,3,oops,inf,\n1,4\n")
    metrics = read_metrics(file)
    assert metrics.axis == "step"
    assert set(metrics.curves) == {"train/loss", "val/AP"}
    assert (metrics.curves["train/loss"].x, metrics.curves["train/loss"].y) == ([0, 2], [1.5, 0.5])
    assert metrics.curves["val/AP"].y == [0.25]


def test_epochs_serve_where_there_are_no_steps(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,AP\n1,0.5\n2,0.6\n")
    assert read_metrics(file).axis == "epoch"
    assert read_metrics(file).curves["AP"].x == [1, 2]


def test_a_file_without_an_axis_is_refused_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("loss\n1\n")
    with pytest.raises(ValueError, match="wanted one named step or epoch"):
        read_metrics(file)
    file.write_text("")
    assert read_metrics(file).curves == {}


def test_the_newest_file_below_is_found(tmp_path: Path) -> None:
    assert find_metrics(tmp_path) is None
    for n, name in enumerate(("version_1", "version_0")):
        (tmp_path / "logs" / name).mkdir(parents=True)
        file = tmp_path / "logs" / name / "metrics.csv"
        file.write_text("step,a\n")
        os.utime(file, (1000 + n, 1000 + n))
    assert find_metrics(tmp_path) == tmp_path / "logs" / "version_0" / "metrics.csv"
    (tmp_path / "metrics.csv").write_text("step,a\n")
    assert find_metrics(tmp_path) == tmp_path / "metrics.csv"


def test_columns_find_their_image(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,train/loss_box,val/AP50,lr,lr-SGD/pg1,images_per_second\n1,1,1,1,1,1\n")
    groups = group_curves(read_metrics(file).curves)
    assert {title: [curve.name for curve in curves] for title, curves in groups.items()} == {
        "Loss": ["train/loss_box"],
        "Validation": ["val/AP50"],
        "Learning rate": ["lr", "lr-SGD/pg1"],
        "Other": ["images_per_second"],
    }


def test_running_mean() -> None:
    assert smooth([2.0, 4.0, 6.0, 8.0], 2) == [2.0, 3.0, 5.0, 7.0]
