"""Zoo models alone on a device: images a second in training and prediction, and the share of the matrix peak.

    python benchmarks/throughput.py yolox_s yolov5s ... --out DIR [--modes train infer1 infer16] [--size 640 640]

What is timed is that of detection.py (whole training step; pixels on the device to boxes on the host), compiled, bf16,
80 classes, random weights; every case prepares in a process of its own and is timed alone. A model runs at its own
input size where that is fixed, unless --size is given.

The peak is measured in the same run: bf16 matrices of 8192 x 8192. GFLOP an image are counted by summary.py
(2 a multiply-add, convolutions and matrix products, up to the raw predictions); a training step is counted as three
forward passes, so frozen layers make its share too high by what they save. DIR/throughput.json, throughput.md: the
table and each case's costliest kernels.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from _harness import SOURCES, add_after, machine, synchronise
from _publishing import publish
from detection import run_cases, torso_recipe

SHOWN = 12  # kernels in the report


def matrix_peak(device: str, side: int) -> dict[str, Any]:
    """FLOP/s of the product of two square matrices (on the CPU in 32 bits, as the models), median and best block."""
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    blocks, calls = (20, 10) if device == "cuda" else (3, 1)
    for _ in range(calls):
        a @ b
    seconds = []
    for _ in range(blocks):
        synchronise(device)
        begun = time.perf_counter()
        for _ in range(calls):
            a @ b
        synchronise(device)
        seconds.append((time.perf_counter() - begun) / calls)
    flop = 2.0 * side**3
    found = {"side": side, "dtype": str(dtype).removeprefix("torch.")}
    return {**found, "flop_per_s": flop / statistics.median(seconds), "best": flop / min(seconds)}


def counted(name: str, size_hw: tuple[int, int] | None) -> tuple[tuple[int, int], int]:
    """The input size of a zoo model and its FLOP an image there, on the meta device."""
    from torso.summary import summarise

    summary = summarise(torso_recipe(name)[0], size_hw)
    return summary.input_hw, summary.flops


def rows_of(results: list[dict[str, Any]], flops: dict[str, int], peak: float) -> list[dict[str, Any]]:
    """Each result with its images/s, FLOP/s and share of the peak."""
    rows = []
    for r in results:
        mode, name, side = r["case"].split(":")
        row = {**r, "model": name, "called": f"{mode}{side.removeprefix('torso').replace('-', ', ')}"}
        row["gflop_per_image"] = flops[name] / 1e9
        if "infer" in mode or side == "torso-graphs":
            row.pop("peak_gib", None)  # a recorded graph's memory lies outside what the allocator counts
        if "ms" in r:
            speed = 1000 * r["batch"] / r["ms"]
            done = flops[name] * (3 if mode == "train" else 1) * speed
            row |= {"images_per_second": speed, "tflop_per_s": done / 1e12, "of_peak": done / peak}
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], peak: dict[str, Any]) -> str:
    """Markdown: the rows, then where the time of each goes."""
    head = ["model", "mode", "batch", "input", "GFLOP an image", "ms (min-max)", "images/s", "TFLOP/s", "of peak"]
    head += ["kernels", "device ms", "peak GiB", "prepare s"]
    lines = [
        f"Matrix peak of this run: {peak['flop_per_s'] / 1e12:.4g} TFLOP/s ({peak['dtype']}, {peak['side']}^3, median; "
        f"best {peak['best'] / 1e12:.4g}).\n",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
    ]
    for r in rows:
        start = [f"`{r['model']}`", r["called"], str(r["batch"]), "x".join(map(str, r["size_hw"]))]
        start.append(f"{r['gflop_per_image']:.1f}")
        if "ms" not in r:
            lines.append(f"| {' | '.join(start)} | failed |{' |' * 7}")
            continue
        cells = [f"{r['ms']:.2f} ({r['ms_min']:.2f}-{r['ms_max']:.2f})", f"{r['images_per_second']:.1f}"]
        cells += [f"{r['tflop_per_s']:.2f}", f"{100 * r['of_peak']:.1f} %", str(r.get("kernels", "-"))]
        cells += [f"{r['device_ms']:.2f}" if "device_ms" in r else "-"]
        cells += [f"{r['peak_gib']:.1f}" if "peak_gib" in r else "-", f"{r['prepare_s']:.0f}"]
        lines.append(f"| {' | '.join([*start, *cells])} |")
    for r in rows:
        if r.get("costliest"):
            lines += ["", f"## {r['model']}, {r['called']}", "", "| ms | calls | kernel |", "|---|---|---|"]
            lines += [f"| {ms:.3f} | {calls} | `{key}` |" for key, calls, ms in r["costliest"][:SHOWN]]
    return "\n".join(lines) + "\n"


def drive(args: argparse.Namespace) -> int:
    """Count, run, report."""
    given = tuple(args.size) if args.size else None
    sizes, flops = {}, {}
    for name in args.models:
        sizes[name], flops[name] = counted(name, given)
    cases = {
        f"{mode}:{name}:{side}": argparse.Namespace(**{**vars(args), "size": sizes[name]})
        for name in args.models
        for mode in args.modes
        for side in args.sides
        if side == "torso" or mode == "train"
    }
    results = run_cases(cases, args)
    peak = matrix_peak(args.device, args.matrix)
    rows = rows_of(results, flops, peak["flop_per_s"])
    found = {"machine": machine(args.device), "command": " ".join(sys.argv), "matrix_peak": peak, "rows": rows}
    publish(Path(args.out), "throughput", found, table(rows, peak))
    failed = [r for r in rows if "ms" not in r]
    for r in failed:
        print(r["case"], r.get("error", "no result")[:600])
    return int(bool(failed) or len(rows) < len(cases))


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+", metavar="MODEL", help="names of the zoo")
    p.add_argument("--out", default="benchmarks/results/local/throughput", metavar="DIR")
    p.add_argument(
        "--modes", nargs="+", default=["train", "infer1", "infer16"], help="train, or infer and a batch size"
    )
    p.add_argument(
        "--sides",
        nargs="+",
        default=["torso"],
        choices=["torso", "torso-eager", "torso-graphs"],
        help="of training: compiled, eager, compiled with CUDA graphs",
    )
    p.add_argument("--size", nargs=2, type=int, default=None, metavar=("HEIGHT", "WIDTH"))
    p.add_argument("--train-batch", type=int, default=16)
    p.add_argument("--device", default="cuda")
    p.add_argument("--matrix", type=int, default=8192, metavar="SIDE", help="of the peak's matrices (8192)")
    p.add_argument("--repeats", type=int, default=15)
    p.add_argument("--limit", type=float, default=540.0, metavar="SECONDS", help="what is left then is killed")
    add_after(p)
    p.add_argument("--serial", action="store_true", help="prepare one after the other: small machines")
    args = p.parse_args()
    sys.path.insert(0, str(SOURCES))
    return drive(args)


if __name__ == "__main__":
    sys.exit(main())
