"""Microbenchmark of suppression beside torchvision, in one run on one device.

    python benchmarks/suppression.py --out benchmarks/results/suppression.json            # full, on a GPU
    python benchmarks/suppression.py --device cpu --batch 2 --rows 1000 --out /tmp/s.json  # small

The peer is torchvision.ops.batched_nms called per image, as its detectors call it. Both are given boxes sorted by
nothing and keep 100 (detections) or 1,000 (proposals, five levels as labels). Soft-NMS stands beside hard NMS of the
same rows, 1,000 an image and 100 kept; so do the other methods, with variances where they want them. Times are ms a
batch after warm-up, the host waiting for the device: the median, and in brackets the fastest and the slowest. "same"
says whether the kept boxes agree, "goal" whether the row reaches what was set for it (as fast as the peer; Soft-NMS
within 3 x hard NMS).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from _harness import machine, synchronise
from torch import Tensor

from torso.parts import named
from torso.suppression.nms import NMS
from torso.types import Candidates


def candidates_of(batch: int, rows: int, labels: int, device: str) -> Candidates:
    """Crowded boxes on 800 x 1344 images: clusters of jittered copies, as the output of a detector is."""
    rng = torch.Generator().manual_seed(rows)
    objects = max(1, rows // 20)
    which = torch.randint(0, objects, (batch, rows, 1), generator=rng)
    centers = torch.rand(batch, objects, 2, generator=rng) * torch.tensor([1344.0, 800.0])
    sizes = torch.exp(torch.rand(batch, objects, 2, generator=rng) * 3 + 2.5)
    centers, sizes = (t.gather(1, which.expand(-1, -1, 2)) for t in (centers, sizes))
    centers = centers + torch.randn(batch, rows, 2, generator=rng) * sizes * 0.15
    sizes = sizes * torch.exp(torch.randn(batch, rows, 2, generator=rng) * 0.15)
    scores = torch.stack([torch.randperm(rows, generator=rng) + 1.0 for _ in range(batch)]) / (rows + 1)
    kinds = torch.randint(0, labels, (batch, rows), generator=rng)
    boxes = torch.cat([centers - sizes / 2, centers + sizes / 2], -1)
    index = torch.arange(rows).expand(batch, rows).contiguous()
    return Candidates(boxes.to(device), scores.to(device), kinds.to(device), index.to(device))


def peer(candidates: Candidates, threshold: float, keep: int) -> list[Tensor]:
    """torchvision, an image at a time."""
    rows = zip(candidates.boxes, candidates.scores, candidates.labels, strict=True)
    return [torchvision.ops.batched_nms(boxes, scores, labels, threshold)[:keep] for boxes, scores, labels in rows]


class Spread(NamedTuple):
    """Of the times of some calls, in ms."""

    median: float
    fastest: float
    slowest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.fastest:.2f}-{self.slowest:.2f})"


def milliseconds(call: Callable[[], object], repeats: int, device: str) -> Spread:
    """Of one call, the device idle before and after."""
    times = []
    for turn in range(repeats + 2):
        synchronise(device)
        start = time.perf_counter()
        call()
        synchronise(device)
        if turn >= 2:
            times.append((time.perf_counter() - start) * 1e3)
    return Spread(statistics.median(times), min(times), max(times))


def measure_nms(batch: int, rows: int, labels: int, keep: int, threshold: float, args: argparse.Namespace) -> dict:
    """One row of the table: hard suppression, ours and the peer's."""
    candidates = candidates_of(batch, rows, labels, args.device)
    nms = NMS(iou_threshold=threshold, max_detections=keep)
    found, expected = nms(candidates), peer(candidates, threshold, keep)
    same = all(torch.equal(index[: len(rows)], rows) for index, rows in zip(found.index, expected, strict=True))
    ours = milliseconds(lambda: nms(candidates), args.repeats, args.device)
    theirs = milliseconds(lambda: peer(candidates, threshold, keep), args.repeats, args.device)
    name = f"nms {batch} x {rows}, {labels} labels, keep {keep}"
    ratio = theirs.median / ours.median
    return {
        "what": name, "torso_ms": ours, "torchvision_ms": theirs, "ratio": ratio, "same": same, "goal": ratio >= 1
    }  # fmt: skip


METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("soft_nms", {"method": "linear"}),
    ("soft_nms", {"method": "gaussian"}),
    ("diou_nms", {}),
    ("diou_nms", {"beta": 0.6}),
    ("matrix_nms", {"method": "linear"}),
    ("matrix_nms", {"method": "gaussian"}),
    ("weighted_fusion", {}),
    ("softer_nms", {"method": "hard"}),
    ("softer_nms", {"method": "gaussian"}),
    ("softer_nms", {"method": "gaussian", "voting": "seed"}),
    ("nms", {"overlap": "giou"}),
    ("nms", {"class_agnostic": True}),
    ("nms", {"max_per_class": 20}),
    ("none", {}),
)


def measure_method(batch: int, rows: int, kind: str, how: dict[str, Any], args: argparse.Namespace) -> dict:
    """One row of the table: a method, and hard suppression of the same rows beside it."""
    candidates = candidates_of(batch, rows, 80, args.device)
    candidates = candidates._replace(variance=torch.rand_like(candidates.boxes) * 9 + 0.1)
    method, hard = named(kind, "suppression").with_args(**how).build(), NMS()
    ours = milliseconds(lambda: method(candidates), args.repeats, args.device)
    other = milliseconds(lambda: hard(candidates), args.repeats, args.device)
    said = " ".join(f"{k}={v}" for k, v in how.items())
    name = " ".join(f"{kind} {said} {batch} x {rows}, keep 100".split())
    row = {"what": name, "torso_ms": ours, "hard_nms_ms": other, "times_hard": ours.median / other.median}
    return {**row, "goal": row["times_hard"] <= 3} if kind == "soft_nms" else row


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Spreads by the names of their values."""
    return {key: value._asdict() if isinstance(value, Spread) else value for key, value in row.items()}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 5000, 20_000])
    parser.add_argument("--soft-rows", type=int, default=1000, help="an image, for the methods beside hard NMS")
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    table = [measure_nms(args.batch, rows, 80, 100, 0.5, args) for rows in args.rows]
    table += [measure_nms(args.batch, rows, 5, 1000, 0.7, args) for rows in args.rows]
    table += [measure_method(args.batch, args.soft_rows, kind, how, args) for kind, how in METHODS]
    for row in table:
        print("  ".join(f"{k} {v:.2f}" if isinstance(v, float) else str(v) for k, v in row.items()))
    about = {**machine(torch.device(args.device).type), "threads": torch.get_num_threads()}
    found = {"machine": about, "command": " ".join(sys.argv), "rows": [as_json(row) for row in table]}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
