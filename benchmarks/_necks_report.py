"""What necks.py says: the table of necks and the figure of AP over cost."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _harness import device_name, write_json
from _seeds import t975

STATS = ("AP", "AP50", "AP75", "APs")
COLOURS = (
    "#1f6feb", "#d1462f", "#2a9d55", "#8a4fd3", "#c98a00", "#0f8b94", "#c2378a", "#6b4f3a", "#5b6770", "#7f9a10",
    "#123f7a",
)  # fmt: skip


def report(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """necks.json, necks.md and necks.svg. rows: one a neck, as necks.py gathers them."""
    import torch

    device = device_name(args.device)
    head = {"device": device, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    settings = json.loads((Path(args.out) / "settings.json").read_text())
    found = {"machine": head, "command": sys.argv, "settings": settings, "rows": rows}
    write_json(Path(args.out, "necks.json"), found)
    text = (
        f"{device}, torch {torch.__version__}, {head['date']}, `{' '.join(sys.argv)}`\n\n"
        f"{args.steps} steps of {args.batch} images of {args.size[0]} x {args.size[1]} px, eager, "
        f"{'bf16 autocast' if args.device == 'cuda' else '32 bits'}.\n\n{table(rows, args)}\n"
    )
    Path(args.out, "necks.md").write_text(text)
    print(text)
    if rows:
        draw(rows, Path(args.out) / "necks.svg")


def table(rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    lines = [
        "| neck | AP, mean +- 95 % | each seed | AP50 | AP75 | APs | parameters (M), of the neck | "
        "multiply-adds (10^9), of the neck | levels | images/s |",
        "|" + "---|" * 10,
    ]
    for r in rows:
        half = "-" if math.isnan(r["half"]) else f"{r['half']:.2f}"
        means = " | ".join(f"{r['means'][s]:.1f}" for s in STATS[1:])
        speed = f"{r['images_per_second']:.0f}" if "images_per_second" in r else "-"
        lines.append(
            f"| `{r['neck']}` | {r['means']['AP']:.2f} +- {half} | {', '.join(f'{v:.2f}' for v in r['each']['AP'])} | "
            f"{means} | {r['parameters'] / 1e6:.2f}, {r['neck_parameters'] / 1e6:.2f} | "
            f"{r['multiply_adds'] / 1e9:.2f}, {r['neck_multiply_adds'] / 1e9:.2f} | {r['levels']} | {speed} |"
        )
    least = least_difference([r["each"]["AP"] for r in rows])
    if least:
        lines.append(
            f"\nThe spread over seeds is {least[0]:.2f} AP, pooled over the necks ({least[2]} degrees of freedom): "
            f"means less than {least[1]:.2f} AP apart are not told apart (95 %, not corrected for many pairs)."
        )
    lines.append("\nAPs stands on the few objects of val below 32 x 32 px (10 of 1138).")
    lines.append(
        f"\nimages/s: batch {args.infer_batch}, pixels to suppressed boxes, "
        + ("bf16, eager kernels replayed as one CUDA graph." if args.device == "cuda" else "32 bits, eager.")
    )
    return "\n".join(lines)


def least_difference(groups: list[list[float]]) -> tuple[float, float, int] | None:
    """Pooled standard deviation over seeds, the least difference of two means at 95 %, degrees of freedom."""
    groups = [g for g in groups if len(g) > 1]
    freedom = sum(len(g) - 1 for g in groups)
    if not freedom:
        return None
    spread = math.sqrt(sum(statistics.variance(g) * (len(g) - 1) for g in groups) / freedom)
    return spread, t975(freedom) * spread * math.sqrt(2 / max(len(g) for g in groups)), freedom


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """AP with its interval over multiply-adds and, where measured, over time an image."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "necks"  # the same figure gives the same file
    costs = [("multiply-adds of the model (10^9)", lambda r: r["multiply_adds"] / 1e9)]
    if all("images_per_second" in r for r in rows):
        costs.append(("time an image (ms)", lambda r: 1000 / r["images_per_second"]))
    figure = Figure(figsize=(5.4 * len(costs), 4.6), layout="constrained")
    for axes, (label, cost) in zip(figure.subplots(1, len(costs), squeeze=False)[0], costs, strict=True):
        _draw_points(axes, sorted(rows, key=lambda r: float(r["means"]["AP"])), cost)
        axes.set(xlabel=label, ylabel="AP on bccd val, mean of seeds, 95 % interval")
    figure.savefig(file, metadata={"Date": None})


def _draw_points(axes: Any, rows: list[dict[str, Any]], cost: Callable[[dict[str, Any]], float]) -> None:
    """Rows by AP; their names stand in a column on the right, each in its point's colour with a thin line to it."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    x, y = [cost(r) for r in rows], [r["means"]["AP"] for r in rows]
    half = [0.0 if math.isnan(r["half"]) else r["half"] for r in rows]
    low, high = min(a - b for a, b in zip(y, half, strict=True)), max(a + b for a, b in zip(y, half, strict=True))
    column, gap = max(x) * 1.12, (high - low) / max(len(rows), 12)
    for i, r in enumerate(rows):
        colour = COLOURS[i % len(COLOURS)]
        axes.errorbar(x[i], y[i], yerr=half[i], fmt="o", color=colour, elinewidth=1.2, capsize=2.5, markersize=5)
        axes.annotate(
            r["neck"], xy=(x[i], y[i]), xytext=(column, (low + high) / 2 + (i - (len(rows) - 1) / 2) * gap),
            fontsize=8, va="center", color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.45, "linewidth": 0.7, "shrinkB": 4},
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(0.95 * min(x), column * (max(x) / min(x)) ** 0.3)
    for axis in (axes.xaxis.set_major_locator, axes.xaxis.set_minor_locator):
        axis(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.grid(visible=True, color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
