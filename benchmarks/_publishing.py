"""The report of a benchmark that times: a table beside peers, and the files STEM.json and STEM.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _harness import machine, write_json


def table_beside(results: list[dict[str, Any]], peers: Mapping[str, str], columns: Sequence[str]) -> str:
    """Markdown, a row a result of time_case; case names are mode:model:side.

    peers: heading of a column and the side whose time in it is divided by the row's. columns: keys shown as they are.
    """
    times = {r["case"]: r["ms"] for r in results if "ms" in r}
    head = ["case", "ms (min-max)", "img/s", *peers, "peak GiB", *columns, "prepare s"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for r in results:
        if "ms" not in r:
            lines.append(f"| {r['case']} | failed |" + " |" * (len(head) - 2))
            continue
        same = r["case"].rpartition(":")[0]
        others = [times.get(f"{same}:{side}") for side in peers.values()]
        ratios = [f"{other / r['ms']:.2f}" if other else "" for other in others]
        # a recorded graph's memory lies outside what the allocator counts
        peak = "" if r["case"].endswith("graphs") else f"{r.get('peak_gib', 0):.1f}"
        cells = [r["case"], f"{r['ms']:.2f} ({r['ms_min']:.2f}-{r['ms_max']:.2f})", f"{r['batch'] / r['ms'] * 1e3:.1f}"]
        cells += [*ratios, peak, *(str(r.get(name, "")) for name in columns), f"{r['prepare_s']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def publish(out: Path, stem: str, found: dict[str, Any], text: str) -> None:
    """STEM.json and STEM.md, and the text on the terminal. found: "machine", "command" and whatever was measured."""
    write_json(out / f"{stem}.json", found)
    head = f"{json.dumps(found['machine'])}\n\n`{found['command']}`\n\n"
    (out / f"{stem}.md").write_text(head + text.rstrip("\n") + "\n")
    print(text)


def publish_beside(
    out: Path, stem: str, results: list[dict[str, Any]], device: str, peers: Mapping[str, str], columns: Sequence[str]
) -> None:
    """The table of these results with machine and command, and on the terminal what went wrong."""
    found = {"machine": machine(device), "command": " ".join(sys.argv), "results": results}
    publish(out, stem, found, table_beside(results, peers, columns))
    for r in results:
        if "error" in r:
            print(r["case"], r["error"][:600])
