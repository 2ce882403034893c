"""Reads the metrics.csv of a run: one curve a column, rows where the logger wrote nothing left out."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Curve(NamedTuple):
    """One metric: x (steps, or epochs where the file has no step) and y, of equal length, finite."""

    name: str
    x: list[float]
    y: list[float]


class Metrics(NamedTuple):
    """A run's curves by column name, in the file's order, over its axis: "step" or "epoch"."""

    axis: str
    curves: dict[str, Curve]


def find_metrics(run_dir: Path) -> Path | None:
    """run_dir/metrics.csv, else the newest metrics.csv below it, else None."""
    direct = run_dir / "metrics.csv"
    if direct.is_file():
        return direct
    below = sorted(run_dir.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime)
    return below[-1] if below else None


def read_metrics(file: Path) -> Metrics:
    """What the file holds; cells that are empty or no finite number are left out.

    ValueError where the file has neither a step nor an epoch column.
    """
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    columns = [name for name in (rows[0] if rows else {}) if name]
    axis = next((name for name in ("step", "epoch") if name in columns), None)
    if rows and axis is None:
        raise ValueError(f"{file} has columns {', '.join(columns)}; wanted one named step or epoch")
    curves = (_curve(rows, name, axis or "step") for name in columns if name not in ("step", "epoch"))
    return Metrics(axis or "step", {curve.name: curve for curve in curves if curve.x})


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean of the last `window` values at each place (fewer at the beginning)."""
    return [sum(values[max(0, n - window + 1) : n + 1]) / min(window, n + 1) for n in range(len(values))]


def _curve(rows: Sequence[Mapping[str, str | None]], name: str, axis: str) -> Curve:
    pairs = [(_number(row.get(axis)), _number(row.get(name))) for row in rows]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    return Curve(name, [x for x, _ in known], [y for _, y in known])


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
