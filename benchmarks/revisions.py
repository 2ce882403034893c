"""Two states of the sources beside each other: the same training steps, timed in turns on one device.

    python benchmarks/revisions.py --before TREE --out DIR [--cases train:retinanet:torso ...] [--rounds 2]

TREE is another checkout with src/ and benchmarks/; "after" is the one this file lies in. Each side runs its own
detection.py as worker (what is timed there: a whole training step, bf16 on CUDA), all cases of a side prepared side by
side and timed alone; the sides take turns, and the second round goes the other way round. DIR/revisions.json and
revisions.md: milliseconds, kernels and whether a step made the host wait, by side, and the ratio after / before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import _harness as harness
from _publishing import publish

HERE = Path(__file__).resolve().parents[1]
EAGER = ("fcos", "gfl", "ssd300", "yolov3", "yolov5n", "yolox_tiny", "efficientdet_d0", "faster_rcnn",
         "centernet_points", "yolov1")  # fmt: skip
CASES = ["train:retinanet:torso", "train:tal_s:torso-graphs", *(f"train:{name}:torso-eager" for name in EAGER)]
SIZES = {"retinanet": (800, 1344), "ssd300": (300, 300), "yolov1": (448, 448), "tal_s": (640, 640)}


def one_round(tree: Path, out: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every case on one side."""
    commands = {}
    for case in args.cases:
        size = SIZES.get(case.split(":")[1], (512, 512))
        own = argparse.Namespace(**{**vars(args), "out": str(out), "size": size})
        flags = harness.flags(own, "out", "device", "size", "repeats", "train_batch")
        commands[case] = [str(tree / "benchmarks" / "detection.py"), "--worker", case, *flags]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(tree / "src"), args.path])
    return harness.run_cases(commands, out / "cases", args)


def row(case: str, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, Any]:
    """A case's medians over the rounds, and the ratio of each round."""
    found: dict[str, Any] = {"case": case}
    for side, results in (("before", before), ("after", after)):
        ok = [r for r in results if "ms" in r]
        if not ok:
            return {**found, "error": [r.get("error", "not measured") for r in results] or side}
        found[f"{side}_ms"] = statistics.median(r["ms"] for r in ok)
        found |= {f"{side}_{key}": ok[-1].get(key) for key in ("kernels", "device_ms", "synchronises", "peak_gib")}
    pairs = [(b["ms"], a["ms"]) for b, a in zip(before, after, strict=False) if "ms" in a and "ms" in b]
    found["ratios"] = [a / b for b, a in pairs]
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| step | before ms | after ms | after / before, each round | kernels | device ms | waits for the device |"
    ]
    lines.append("|" + "---|" * 7)
    for r in rows:
        if "error" in r:
            lines.append(f"| {r['case']} | {str(r['error'])[:200]} |" + " |" * 5)
            continue
        cells = [r["case"], f"{r['before_ms']:.2f}", f"{r['after_ms']:.2f}", ", ".join(f"{x:.3f}" for x in r["ratios"])]
        for key, form in (("kernels", "{}"), ("device_ms", "{:.2f}"), ("synchronises", "{}")):
            both = [r[f"{side}_{key}"] for side in ("before", "after")]
            cells.append(" -> ".join("-" if x is None else form.format(x) for x in both))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--before", required=True, type=Path, metavar="TREE")
    p.add_argument("--out", type=Path, default=Path("benchmarks/results/local"))
    p.add_argument("--cases", nargs="+", default=CASES, metavar="MODE:MODEL:SIDE")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--device", default="cuda")
    p.add_argument("--repeats", type=int, default=8)
    p.add_argument("--train-batch", type=int, default=16)
    p.add_argument("--limit", type=float, default=240.0, metavar="SECONDS", help="of one side's round")
    p.add_argument("--serial", action="store_true", help="prepare one case after the other: small machines")
    harness.add_after(p)
    args = p.parse_args()
    args.path = os.environ.get("PYTHONPATH", "")
    found: dict[str, dict[str, list[Any]]] = {"before": {}, "after": {}}
    trees = {"before": args.before.resolve(), "after": HERE}
    for number in range(args.rounds):
        for side in ("before", "after") if number % 2 == 0 else ("after", "before"):
            for result in one_round(trees[side], args.out / f"{side}-{number}", args):
                found[side].setdefault(result["case"], []).append(result)
        rows = [row(c, found["before"].get(c, []), found["after"].get(c, [])) for c in args.cases]
        about = {"machine": harness.machine(args.device), "command": " ".join(sys.argv), "rounds": number + 1}
        publish(args.out, "revisions", {**about, "rows": rows}, table(rows))
    return int(any("error" in r for r in rows))


if __name__ == "__main__":
    sys.exit(main())
