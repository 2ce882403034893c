"""The report's figures as PNG files. matplotlib is imported when a figure is drawn, never before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torso.evaluation.confusion import Confusion
from torso.evaluation.curves import Sweep
from torso.evaluation.detection import ClassScores
from torso.report.metrics import Curve, smooth

_COLOURS = (
    "#1f6feb", "#d1462f", "#2a9d55", "#8a4fd3", "#c98a00", "#0f8b94", "#c2378a", "#6b4f3a", "#8d99a6", "#9bbf1e",
)  # fmt: skip
_Y_LABELS = {"Loss": "loss", "Validation": "score (0 to 1)", "Learning rate": "learning rate"}
_MANY_CLASSES = 10


def group_curves(curves: Mapping[str, Curve]) -> dict[str, list[Curve]]:
    """Curves by the image they belong on: "Loss", "Validation" (0..1), "Learning rate", "Other"."""
    groups: dict[str, list[Curve]] = {"Loss": [], "Validation": [], "Learning rate": [], "Other": []}
    for name, curve in curves.items():
        last = name.rsplit("/", 1)[-1].lower()
        if "loss" in last:
            groups["Loss"].append(curve)
        elif last.startswith(("ap", "ar", "map", "recall", "precision")):
            groups["Validation"].append(curve)
        elif last.startswith(("lr", "learning_rate")) or name.startswith("lr"):
            groups["Learning rate"].append(curve)
        else:
            groups["Other"].append(curve)
    return {title: found for title, found in groups.items() if found}


def plot_curves(title: str, curves: Sequence[Curve], file: Path, *, x_label: str = "step") -> None:
    """Lines over steps; long ones are drawn pale with their running mean on top."""
    figure, axes = _figure(title)
    for curve, colour in zip(curves, _colours(len(curves)), strict=True):
        window = len(curve.y) // 20
        if title == "Loss" and window > 2:
            axes.plot(curve.x, curve.y, color=colour, alpha=0.22, linewidth=0.8)
            axes.plot(curve.x, smooth(curve.y, window), color=colour, linewidth=1.8, label=curve.name)
        else:
            marker = "o" if len(curve.y) < 40 else None
            axes.plot(curve.x, curve.y, color=colour, linewidth=1.8, marker=marker, markersize=3.5, label=curve.name)
    axes.set_xlabel(x_label)
    axes.set_ylabel(_Y_LABELS.get(title, "value"))
    if title == "Validation":
        axes.set_ylim(0, 1)
    else:
        axes.set_ylim(bottom=min(0.0, *(min(curve.y) for curve in curves)))
    axes.legend(fontsize=8, frameon=False, ncols=2 if len(curves) > 4 else 1)
    figure.savefig(file)


def plot_precision_recall(sweeps: Sequence[Sweep], file: Path, *, iou: float) -> None:
    """One curve a class and all together; of many classes the five with most objects are named, the others grey."""
    figure, axes = _figure(f"Precision and recall at IoU {iou:g}")
    *classes, together = sweeps
    shown = [sweep for sweep in classes if sweep.objects and sweep.threshold.size]
    largest = sorted(shown, key=lambda sweep: -sweep.objects)[:5]
    named = shown if len(shown) <= _MANY_CLASSES else largest
    for sweep in shown:
        if sweep not in named:
            axes.plot(*_steps(sweep), color="#c4cad1", linewidth=0.8)
    for sweep, colour in zip(named, _colours(len(named)), strict=True):
        axes.plot(*_steps(sweep), color=colour, linewidth=1.4, label=sweep.name)
    axes.plot(*_steps(together), color="black", linewidth=2.4, label=together.name)
    if together.best is not None:
        at = (together.recall[together.best], together.precision[together.best])
        label = f"best F1: {together.f1[together.best]:.2f}\nat score {together.best_threshold:.2f}"
        axes.plot(*at, "o", color="black", markersize=6, label=label)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    figure.savefig(file)


def plot_f1(sweeps: Sequence[Sweep], file: Path, *, iou: float) -> None:
    """Precision, recall and F1 of all classes together over the score threshold."""
    figure, axes = _figure(f"Which score to cut at (all classes, IoU {iou:g})")
    together = sweeps[-1]
    for name, values, colour in (
        ("precision", together.precision, _COLOURS[0]),
        ("recall", together.recall, _COLOURS[1]),
        ("F1", together.f1, "black"),
    ):
        axes.plot(together.threshold, values, color=colour, linewidth=1.8, label=name)
    if together.best_threshold is not None:
        axes.axvline(together.best_threshold, color="#5a6b7b", linestyle="--", linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="score threshold", ylabel="value (0 to 1)")
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(file)


def plot_class_ap(classes: Sequence[ClassScores], file: Path, *, most: int = 30) -> None:
    """Bars of AP50 and AP, best first; of more than `most` classes the best and the weakest halves."""
    known = sorted((one for one in classes if one.boxes), key=lambda one: -one.AP50)
    cut = len(known) > most
    shown = [*known[: most // 2], *known[-(most // 2) :]] if cut else known
    title = f"AP of the {most // 2} best and {most // 2} weakest classes" if cut else "AP by class"
    figure, axes = _figure(title, height=max(3.2, 0.28 * len(shown) + 1.2))
    rows = np.arange(len(shown))
    axes.barh(rows, [one.AP50 for one in shown], height=0.72, color="#b9d2f8", label="AP50")
    axes.barh(rows, [one.AP for one in shown], height=0.36, color=_COLOURS[0], label="AP (IoU 0.50 to 0.95)")
    axes.set_yticks(rows, [_plain(one.name)[:28] for one in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="average precision")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    figure.savefig(file)


def plot_confusion(table: Confusion, file: Path) -> None:
    """Share of each true class (row) that was taken for each class (column), counts in the cells of small tables."""
    shares = table.counts / np.maximum(table.counts.sum(axis=1, keepdims=True), 1)
    names = [_plain(name)[:18] for name in table.names]
    size = len(names) + 1
    width, height = min(11.0, max(6.4, 3.8 + 0.26 * size)), min(10.0, max(4.0, 1.2 + 0.26 * size))
    figure, axes = _figure(f"Confusion at score {table.score:.2f}, IoU {table.iou:g}", width=width, height=height)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(size), [*names, "missed"], rotation=90)
    axes.set_yticks(range(size), [*names, "nothing there"])
    axes.tick_params(labelsize=8 if size <= 30 else 5)
    axes.grid(visible=False)
    axes.set(xlabel="predicted", ylabel="true")
    for row, column in zip(*np.nonzero(table.counts), strict=True) if size <= 25 else ():
        ink = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, str(table.counts[row, column]), ha="center", va="center", color=ink, fontsize=8)
    figure.savefig(file)


def _figure(title: str, *, width: float = 6.4, height: float = 4.0) -> tuple[Any, Any]:
    """A figure outside pyplot, whose state is global; drawn by Agg whatever backend the user has."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, loc="left")
    axes.grid(visible=True, color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _steps(sweep: Sweep) -> tuple[Any, Any]:
    """Recall and precision, beginning at recall 0 with the first precision."""
    first = sweep.precision[:1]
    return np.concatenate([np.zeros(len(first)), sweep.recall]), np.concatenate([first, sweep.precision])


def _colours(count: int) -> list[str]:
    return [_COLOURS[n % len(_COLOURS)] for n in range(count)]


def _plain(text: str) -> str:
    """Dollar signs would be read as mathematics."""
    return text.replace("$", r"\$")
