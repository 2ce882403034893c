"""The tables of benchmarks/wild.py: each case on each set, and differences paired by seed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from _seeds import half_width

Row = dict[str, Any]


def gather(rows: Sequence[Row], against: Sequence[str]) -> dict[str, Any]:
    """Cells of (mode, set, case) and paired differences; packed and alone are apart."""
    done = [row for row in rows if row["code"] == 0]
    cells, pairs = [], []
    for mode in ("alone", "packed"):
        mine = [row for row in done if mode_of(row) == mode]
        cells += [{"mode": mode, **cell} for cell in cells_of(mine)]
        pairs += [{"mode": mode, **pair} for peer in against for pair in pairs_of(mine, peer)]
    failures = [{key: row.get(key) for key in ("name", "code", "failure")} for row in rows if row["code"] != 0]
    machines = sorted({json.dumps(row["machine"], sort_keys=True) for row in rows})
    versions = sorted({json.dumps(row["versions"], sort_keys=True) for row in rows})
    return {
        "machines": [json.loads(m) for m in machines], "versions": [json.loads(v) for v in versions],
        "cells": cells, "pairs": pairs, "failures": failures,
    }  # fmt: skip


def mode_of(row: Row) -> str:
    """ "alone" or "packed"."""
    return "alone" if row["packed"] == "alone" else "packed"


def cells_of(rows: Sequence[Row]) -> list[Row]:
    """Mean and standard deviation over the seeds of each case on each set; AP and AP50 in 0..100."""
    cells = []
    for name in ordered(row["set"] for row in rows):
        for case in ordered(row["case"] for row in rows):
            runs = [row for row in rows if (row["set"], row["case"]) == (name, case)]
            if runs:
                scores = {key: spread([100 * row[key] for row in runs]) for key in ("AP", "AP50")}
                times = {key: spread([row[key] for row in runs if row[key]]) for key in ("seconds", "first_step")}
                seeds = sorted(row["seed"] for row in runs)
                at_once = sorted({str(row["packed"]) for row in runs})
                cells.append({"set": name, "case": case, "seeds": seeds, "at_once": at_once, **scores, **times})
    return cells


def pairs_of(rows: Sequence[Row], peer: str) -> list[Row]:
    """Each case less the peer, seed by seed; a set's mean is one value, the 95 % interval is over sets."""
    score = {(row["case"], row["set"], row["seed"]): 100 * row["AP"] for row in rows}
    seconds = {(row["case"], row["set"], row["seed"]): row["seconds"] for row in rows}
    pairs = []
    for case in ordered(row["case"] for row in rows if row["case"] != peer):
        means, times = {}, {}
        for name in ordered(row["set"] for row in rows):
            both = sorted(s for c, n, s in score if (c, n) == (case, name) and (peer, name, s) in score)
            if both:
                means[name] = statistics.mean(score[case, name, s] - score[peer, name, s] for s in both)
                times[name] = statistics.mean(seconds[case, name, s] / seconds[peer, name, s] for s in both)
        if means:
            values = list(means.values())
            half = half_width(values) if len(values) > 1 else None
            pairs.append(
                {"case": case, "against": peer, "sets": means, "mean": statistics.mean(values), "half": half,
                 "worst": min(means, key=lambda name: means[name]), "times": statistics.mean(times.values())}
            )  # fmt: skip
    return pairs


def ordered(names: Any) -> list[str]:
    """Each once, sorted."""
    return sorted(set(names))


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard deviation; None where there are too few values."""
    return {
        "mean": statistics.mean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
    }


# ------------------------------------------------------------------------------------------------------- markdown


def markdown(found: dict[str, Any]) -> str:
    """All tables."""
    parts = [f"Machines: {json.dumps(found['machines'])}\n\nVersions: {json.dumps(found['versions'])}"]
    parts += [f"`{' '.join(found['command'])}`"]
    for mode in ordered(cell["mode"] for cell in found["cells"]):
        parts += [f"## {mode}", cell_table([c for c in found["cells"] if c["mode"] == mode])]
        if pairs := [pair for pair in found["pairs"] if pair["mode"] == mode]:
            parts += [pair_table(pairs)]
    if found["failures"]:
        parts += ["Failed: " + ", ".join(f"`{row['name']}`" for row in found["failures"])]
    return "\n\n".join(parts) + "\n"


def cell_table(cells: Sequence[Row]) -> str:
    """A row a set and case."""
    head = ("set", "case", "seeds", "at once", "AP", "AP50", "seconds", "to the first step")
    lines = [line(head), "|" + "---|" * len(head)]
    for cell in cells:
        numbers = [plus_minus(cell[key]) for key in ("AP", "AP50", "seconds", "first_step")]
        lines.append(line([cell["set"], cell["case"], len(cell["seeds"]), ", ".join(cell["at_once"]), *numbers]))
    return "\n".join([*lines, "", "AP on test; mean +- standard deviation over the seeds."])


def pair_table(pairs: Sequence[Row]) -> str:
    """A row a case and peer."""
    head = ("case", "against", "sets", "AP difference, 95 % over sets", "lower bound", "worst set", "seconds, times")
    lines = [line(head), "|" + "---|" * len(head)]
    for pair in pairs:
        half = pair["half"]
        mean = f"{pair['mean']:+.1f}" + (f" +- {half:.1f}" if half is not None else "")
        lower = f"{pair['mean'] - half:+.1f}" if half is not None else "-"
        worst = f"{pair['worst']} {pair['sets'][pair['worst']]:+.1f}"
        row = [pair["case"], pair["against"], len(pair["sets"]), mean, lower, worst, f"{pair['times']:.2f}"]
        lines.append(line(row))
    return "\n".join([*lines, "", "Paired by seed; a set counts once, its seeds' mean."])


def line(cells: Sequence[Any]) -> str:
    """Of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def plus_minus(value: Row) -> str:
    """Mean and spread, a dash where there is none."""
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.1f}" + (f" +- {value['sd']:.1f}" if value["sd"] is not None else "")
