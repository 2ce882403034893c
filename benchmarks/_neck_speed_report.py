"""What neck_speed.py says: necks beside their peers, and every neck of ours beside our FPN."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from _harness import write_json
from _neck_peers import PEERS

MODES = ("forward", "step")
BESIDE = """"x torso": a time divided by that of `torso` in the same form; above one ours is faster. fpn and pan compute
the same on all sides. NAS-FPN: mmdet's graph and convolutions are the same; its gate is another,
L + H * sigmoid(avg(L)) in each GlobalPoolingCell (L the finer map, H the coarser), and a 1x1 stands before each pooling
that makes P6 and P7. `torso` has the authors' gate, H + L * sigmoid(max(H)); `torso-avg` mmdet's."""


def report(about: dict[str, Any], args: argparse.Namespace, by_job: Iterable[dict[str, Any]]) -> None:
    """neck_speed.json and neck_speed.md. by_job: what each process found, by side."""
    results = merged(by_job)
    write_json(Path(args.out, "neck_speed.json"), {**about, "results": list(results.values())})
    errors = [f"- {side} {key}: {text}" for side, r in results.items() for key, text in r["errors"].items()]
    parts = [
        json.dumps({**about["machine"], **about["versions"]}), f"`{about['command']}`",
        f"{args.batch} images of {args.size[0]} x {args.size[1]}, {args.width} channels; median (least) of blocks.",
        "## Beside peers", BESIDE, peers_table(results, args.forms),
        "## Beside our FPN", necks_table(results, args.forms, args.batch),
        *(["## Not measured", "\n".join(errors)] if errors else []),
    ]  # fmt: skip
    Path(args.out, "neck_speed.md").write_text("\n\n".join(parts) + "\n")


def merged(by_job: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the processes of a side found, as one."""
    results: dict[str, dict[str, Any]] = {}
    for job in by_job:
        for side, found in job.items():
            kept = results.setdefault(side, {"side": side})
            for name, value in found.items():
                kept[name] = kept.get(name, {}) | value if isinstance(value, dict) else value
    return results


def peers_table(by_side: dict[str, dict[str, Any]], forms: list[str]) -> str:
    head = ["neck", "side", "form", "forward ms", "x torso", "step ms", "x torso", "kernels", "GiB of a step"]
    head += ["parameters", "multiply-adds (10^9)"]
    rows = []
    for side, r in by_side.items():
        neck, who = side.split(":")
        for form in forms if neck in PEERS else ():
            cells = [neck, who, form]
            for mode in MODES:
                mine = r["times"].get(f"{mode}:{form}")
                ours = by_side[f"{neck}:torso"]["times"].get(f"{mode}:{form}")
                cells += [shown(mine, r, f"{mode}:{form}"), f"{mine['ms'] / ours['ms']:.2f}" if mine and ours else ""]
            both = [r["times"].get(f"{mode}:{form}", {}) for mode in MODES]
            cells.append(" / ".join(str(t.get("kernels", "")) for t in both).strip(" /"))
            cells += [f"{both[1]['gib']:.1f}" if "gib" in both[1] else "", *sizes(r)]
            rows.append(cells)
    return markdown(head, rows)


def necks_table(by_side: dict[str, dict[str, Any]], forms: list[str], batch: int) -> str:
    """TFLOP/s: two a multiply-add forward, six a step, over the median time."""
    ours = {side.split(":")[0]: r for side, r in by_side.items() if side.endswith(":torso")}
    head = ["neck", "form", "forward ms", "x fpn", "step ms", "x fpn", "multiply-adds x fpn", "parameters"]
    head += ["multiply-adds (10^9)", "operations", "GB", "GB x fpn", "TFLOP/s forward", "TFLOP/s step", "kernels"]
    rows = []
    for neck, r in ours.items():
        fpn = ours.get("fpn", {"times": {}})
        for form in forms:
            both = [r["times"].get(f"{mode}:{form}") for mode in MODES]
            cells = [neck, form]
            for mode, mine in zip(MODES, both, strict=True):
                base = fpn["times"].get(f"{mode}:{form}")
                cells += [shown(mine, r, f"{mode}:{form}"), f"{mine['ms'] / base['ms']:.2f}" if mine and base else ""]
            cells += [over(r, fpn, "multiply_adds"), *sizes(r), str(r.get("operations", ""))]
            cells += [f"{r['bytes'] / 1e9:.2f}" if "bytes" in r else "", over(r, fpn, "bytes")]
            for mine, flops in zip(both, (2, 6), strict=True):
                cells.append(f"{flops * r['multiply_adds'] * batch / mine['ms'] / 1e9:.3g}" if mine else "")
            cells.append(" / ".join(str((t or {}).get("kernels", "")) for t in both).strip(" /"))
            rows.append(cells)
    return markdown(head, rows)


def shown(times: dict[str, Any] | None, r: dict[str, Any], key: str) -> str:
    if times:
        return f"{times['ms']:.2f} ({times['ms_min']:.2f})"
    failure = r["errors"].get(key)
    if failure and "ModuleNotFoundError" in failure:
        return "not importable"
    return "failed" if failure else "not reached"


def sizes(r: dict[str, Any]) -> list[str]:
    return [f"{r['parameters']:,}", f"{r['multiply_adds'] / 1e9:.2f}"] if "parameters" in r else ["", ""]


def over(r: dict[str, Any], base: dict[str, Any], name: str) -> str:
    return f"{r[name] / base[name]:.2f}" if name in r and name in base else ""


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
