"""Trainings of several cases and seeds side by side, each in a process of its own, and what their spread says."""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _harness import start

Z = 1.959964
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t at 97.5 % by degrees of freedom."""


def t975(freedom: int) -> float:
    """Student's t at 97.5 %: the table, beyond it the expansion in 1 / degrees of freedom (right to 0.001)."""
    if freedom in T95:
        return T95[freedom]
    first, second = (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + first / freedom + second / freedom**2 + third / freedom**3


def half_width(values: Sequence[float]) -> float:
    """Of the 95 % interval of the mean by Student's t; NaN for one value."""
    if len(values) < 2:
        return math.nan
    return t975(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


# ------------------------------------------------------------------------------------------------------ one training


def to_device(batch: Any, device: str) -> Any:
    """A batch of a loader of torso with its images and targets on the device."""

    def move(x: Any) -> Any:
        return None if x is None else x.to(device, non_blocking=True)

    return batch._replace(
        images=type(batch.images)(*map(move, batch.images)), targets=type(batch.targets)(*map(move, batch.targets))
    )


def lite0(data: str | Path) -> Path:
    """The pretrained EfficientNet-Lite0 in a folder of data, timm's keys."""
    return Path(data) / "weights" / "tf_efficientnet_lite0_in1k_timm.safetensors"


def resumed(checkpoint: Path, model: Any, optimiser: Any, device: str) -> dict[str, Any]:
    """Model and optimiser set to where a checkpoint left them, and what else it holds; {} where there is none."""
    import torch

    if not checkpoint.is_file():
        return {}
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True, map_location=device)
    model.load_state_dict(state.pop("model"))
    optimiser.load_state_dict(state.pop("optimiser"))
    return state


def to_original(found: Any, images: Any, names: tuple[str, ...]) -> list[Any]:
    """Detections in the pixels of the original images."""
    from torso.inference.detections import Detections

    scale, offset = images.to_original[:, None, :2], images.to_original[:, None, 2:]
    boxes = (found.boxes.unflatten(-1, (2, 2)) * scale[:, :, None] + offset[:, :, None]).flatten(-2).cpu().float()
    scores, labels = found.scores.cpu().float(), found.labels.cpu()
    return [Detections(b[s > 0], s[s > 0], c[s > 0], names) for b, s, c in zip(boxes, scores, labels, strict=True)]


def rate(step: int, steps: int, args: argparse.Namespace) -> float:
    """The learning rate of a step: a cosine to a hundredth of args.lr, its first args.warmup steps a ramp."""
    ramp = min(1.0, (step + 1) / args.warmup)
    return float(args.lr * ramp * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2))


# ------------------------------------------------------------------------------------------------------ the driver


def side_by_side(cases: Sequence[tuple[str, int]], folder: Path, args: argparse.Namespace) -> None:
    """Run this script's cases that have no FOLDER/CASE-SEED.json, args.jobs at once, for args.limit seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [(c, s) for c, s in cases if not (folder / f"{c}-{s}.json").is_file()]
    running: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    failed, deadline = [], time.time() + args.limit
    while todo or running:
        while todo and len(running) < args.jobs:
            case, seed = todo.pop(0)
            command = [*sys.argv, "--one", case, "--one-seed", str(seed)]
            running[case, seed] = start(command, folder / f"{case}-{seed}.log", append=True)
        for key, process in list(running.items()):
            if process.poll() is not None:
                failed += [key] if process.returncode else []
                del running[key]
        if time.time() > deadline:
            for process in running.values():
                process.kill()
            print(f"time is up: {len(running) + len(todo)} trainings are not finished; repeat the command to go on")
            break
        time.sleep(0.3)
    for case, seed in failed:
        print(f"{case}-{seed} failed: see {folder / f'{case}-{seed}.log'}")


def parser(doc: str | None, *, out: str, models: Sequence[str], seeds: int, every: int) -> argparse.ArgumentParser:
    """The flags that such scripts share; out, the first so many seeds and every are defaults."""
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, help="folder with bccd/ and weights/")
    p.add_argument("--out", default=out)
    p.add_argument("--models", nargs="+", default=[models[0]], choices=models)
    p.add_argument("--seeds", nargs="+", type=int, default=list(range(seeds)))
    p.add_argument("--epochs", type=int, default=30)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=2e-4)
    p.add_argument("--warmup", type=int, default=100)
    p.add_argument("--every", type=int, default=every, help="epochs between checkpoints")
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--jobs", type=int, default=6)
    p.add_argument("--device", default="cuda")
    p.add_argument("--limit", type=float, default=540.0, help="seconds; a stopped training goes on the next time")
    p.add_argument("--one", help=argparse.SUPPRESS)
    p.add_argument("--one-seed", type=int, help=argparse.SUPPRESS)
    return p


def run(
    args: argparse.Namespace,
    train_one: Callable[[str, int, argparse.Namespace], None],
    drive: Callable[[argparse.Namespace], None],
) -> None:
    """Train one case (a process of the driver's), or drive."""
    if args.one:
        train_one(args.one, args.one_seed, args)
    else:
        drive(args)
