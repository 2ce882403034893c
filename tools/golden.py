"""Golden runs: every family trained for five steps on the CPU, and whether the same bits come out again.

    python tools/golden.py record --out DIR            # the runs of this checkout: DIR/golden.json
    python tools/golden.py compare DIR                 # the same runs again; exit status 1 where a bit differs
    python tools/golden.py files --out NEW             # files of small runs, as tests/golden holds them

Only torso's command line is used, so nothing here follows where modules move. The flags of FAMILIES are all that may
have to change. Bits belong to one machine and one environment: record and compare on the same.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "golden"))
from dataset import write  # noqa: E402  # after the path that it lies on

STEPS, KEPT_STEP = 5, 3
"""Steps of a run; the step after which the checkpoint that `files` keeps was written."""
COMMON = (
    f"--accelerator=cpu --devices=1 --workers=0 --batch-size=2 --lr-batch=2 --steps={STEPS} --warmup-steps=2 "
    f"--log-every=1 --eval-every=99 --checkpoint-every={KEPT_STEP}"
)


class Family(NamedTuple):
    """Flags of a golden run, of a small one whose files are to be kept (few and little tensors), and of both."""

    golden: str
    small: str
    both: str


_CSP = "--backbone.width=0.01 --backbone.depth=0.1"  # eight channels everywhere
_SHUFFLENET = "--backbone=shufflenet_v2 --backbone.stem=8 --backbone.widths=8,8,8 --backbone.repeats=1,1,1"
_DARKNET19 = "--backbone=darknet19 --backbone.width=0.01 --backbone.norm=none"
_DENSE = "--neck.coarsest=32 --head.coarsest=32 --head.tower=1 --head.score_threshold=0"
_LETTERBOX = "--input=letterbox --input.size_hw=96,96"
_MOSAIC = "--input.size_hw=96,96 --augment.0.size_hw=96,96 --head.score_threshold=0"
_WIDE, _NARROW = "--neck.channels=16 --head.channels=16", "--neck.channels=8 --head.channels=8"
_SSD = (
    "--neck.strides=2,2 --neck.paddings=1,1 --neck.steps=32,64 --head.coarsest=64 "
    "--head.priors.sizes=10,20,40,60,80 --head.priors.ratios=[[2],[2,3],[2,3],[2]]"
)

FAMILIES = {
    "fcos": Family(
        golden=f"--backbone=test_resnet {_WIDE}",
        small=f"--backbone=test_efficientnet --backbone.frozen_stride=32 {_NARROW}",
        both=f"{_LETTERBOX} {_DENSE}",
    ),
    "retinanet": Family(
        golden=f"--backbone=test_efficientnet {_WIDE}",
        small=f"{_SHUFFLENET} {_NARROW}",
        both=f"{_LETTERBOX} {_DENSE}",
    ),
    "ssd300": Family(
        golden="--neck.widths=16,16",
        small=f"{_SHUFFLENET} --neck.finest=8 --neck.widths=8,8",
        both=f"--input.size_hw=96,96 {_SSD} --head.score_threshold=0",
    ),
    "yolov3": Family(
        golden="--backbone=darknet19 --backbone.width=0.1 --head.channels=16",
        small=f"{_DARKNET19} --neck.norm=none --head.channels=8 --momentum=0",
        both=f"{_MOSAIC} --neck.channels=8",
    ),
    "yolov5n": Family(
        golden="--backbone.width=0.125",
        small=f"{_CSP} --neck.norm=none --ema=0",
        both=_MOSAIC,
    ),
    "yolox_tiny": Family(
        golden="--backbone.width=0.125",
        small=f"{_CSP} --neck.norm=none --head.tower=1 --ema=0 --momentum=0",
        both=f"{_MOSAIC} {_NARROW}",
    ),
    "tal_n": Family(
        golden="--backbone.width=0.125 --head.channels=16 --head.box_channels=16",
        small=f"{_CSP} --neck.norm=none --head.channels=8 --head.box_channels=8 --head.tower=1 --ema=0 --momentum=0",
        both=_MOSAIC,
    ),
    "gfl": Family(
        golden=f"--backbone=test_convnext {_WIDE}",
        small=f"{_SHUFFLENET} {_NARROW} --momentum=0",
        both=f"{_LETTERBOX} {_DENSE} --accumulate=2",
    ),
    "efficientdet_d0": Family(
        golden=f"--backbone=test_efficientnet {_WIDE}",
        small=f"{_SHUFFLENET} {_NARROW} --neck.coarsest=32 --head.coarsest=32",
        both="--input.size_hw=128,128 --augment.1.size_hw=128,128 --neck.layers=1 --head.tower=1 "
        "--head.score_threshold=0 --lr=0.01",
    ),
    "faster_rcnn": Family(
        golden="--backbone=test_resnet --neck.channels=16 --head.channels=32",
        small=f"{_SHUFFLENET} --neck.channels=8 --neck.finest=8 --head.finest=8 --head.channels=16",
        both=f"{_LETTERBOX} --neck.coarsest=32 --head.roi_size=3 --head.proposer.channels=8 "
        "--head.proposer.coarsest=32 --head.proposals=50 --head.score_threshold=0 --accumulate=2",
    ),
    "centernet_points": Family(
        golden="--backbone=test_byobnet --neck.widths=16,8,8",
        small=f"{_SHUFFLENET} --neck.widths=8,8,8",
        both="--input.size_hw=96,96 --head.channels=8",
    ),
    "yolov1": Family(
        golden="--backbone.width=0.1 --head.hidden=32",
        small="--backbone.width=0.01 --backbone.norm=none --head.norm=none --head.hidden=16 --momentum=0",
        both="--input.size_hw=128,128 --augment.0.size_hw=128,128 --head.grid_hw=3,3 --head.channels=8 "
        "--head.score_threshold=0",
    ),
}


# ------------------------------------------------------------------------------------------------------------ the runs


def torso(*words: str | Path, cwd: Path) -> str:
    """One command of this checkout's torso, on one thread; its standard output. RuntimeError where it fails."""
    one = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    environment = {**os.environ, **one, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "torso", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"torso {' '.join(map(str, words))}\nended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def train(name: str, flags: str, work: Path) -> Path:
    """The folder of a family's run, in a fresh folder work beside the data set."""
    work.mkdir()
    write(work / "set")
    torso("train", name, "--data", "set", "--out", "run", *COMMON.split(), *flags.split(), cwd=work)
    return work / "run"


def golden(name: str, work: Path) -> dict[str, Any]:
    """What one family's run leaves, in hashes and numbers."""
    family, start = FAMILIES[name], time.monotonic()
    run = train(name, f"{family.golden} {family.both}", work)
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    scores = json.loads(torso("eval", "run", "--data", "set", "--json", cwd=work))
    parts = {
        "weights": load_file(run / "model.safetensors"),
        "network": checkpoint.pop("state_dict"),
        "optimizer": dict(tensors(checkpoint.pop("optimizer_states"))),
        "other tensors": dict(tensors(checkpoint)),
    }
    record = {
        "flags": f"{family.golden} {family.both}",
        "bytes": {part: hash_of(found) for part, found in parts.items()},
        "names": {part: sha256("\n".join(sorted(found))) for part, found in parts.items()},
        "predictions": sha256(json.dumps(json.loads((run / "predictions.json").read_text()))),
        "steps": read_steps(run / "metrics.csv"),
        "scores": scores,
    }
    shutil.rmtree(work)
    print(f"{name:18s}{time.monotonic() - start:6.1f} s  loss {record['steps'][-2].get('train/loss')}", flush=True)
    return record


def every_family(names: list[str], jobs: int) -> dict[str, Any]:
    """All the records, jobs of them made at a time."""
    with tempfile.TemporaryDirectory(prefix="torso-golden-") as folder, ThreadPoolExecutor(jobs) as pool:
        made = {name: pool.submit(golden, name, Path(folder) / name) for name in names}
        return {name: record.result() for name, record in made.items()}


# -------------------------------------------------------------------------------------------------- hashes and numbers


def tensors(content: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of nested plain data, with the way to it."""
    if isinstance(content, Tensor):
        yield path, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from tensors(value, f"{path}/{key}")
    elif isinstance(content, list | tuple):
        for i, value in enumerate(content):
            yield from tensors(value, f"{path}/{i}")


def hash_of(found: Mapping[str, Tensor]) -> str:
    """Of type, shape and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(found):
        value = found[name].detach().contiguous()
        total.update(f"{value.dtype} {tuple(value.shape)} ".encode())
        total.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def sha256(text: str) -> str:
    """Of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_steps(path: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv as they are written, without what a clock says."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if v and k != "images_per_second"} for row in rows]


def largest_difference(old: list[dict[str, str]], new: list[dict[str, str]]) -> float:
    """Relative, over the losses that both have; infinite where a loss or a step is missing."""
    if [sorted(row) for row in old] != [sorted(row) for row in new]:
        return math.inf
    pairs = [(float(a[k]), float(b[k])) for a, b in zip(old, new, strict=True) for k in a if k.startswith("train/")]
    return max((abs(a - b) / max(abs(a), abs(b), 1e-12) for a, b in pairs), default=math.inf)


# ------------------------------------------------------------------------------------------------------------ commands


def record(args: argparse.Namespace) -> int:
    """Writes OUT/golden.json."""
    args.out.mkdir(parents=True, exist_ok=True)
    content = {"commit": commit(), "torch": torch.__version__, "families": every_family(args.families, args.jobs)}
    (args.out / "golden.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(f"{len(args.families)} families of {content['commit']} in {args.out / 'golden.json'}")
    return 0


def compare(args: argparse.Namespace) -> int:
    """Prints a row a family; 1 where one differs."""
    base = json.loads((args.base / "golden.json").read_text(encoding="utf-8"))
    print(f"against {base['commit']}, torch {base['torch']} (here {torch.__version__})")
    now = every_family(args.families, args.jobs)
    rows = {name: differences(base["families"].get(name), now[name]) for name in args.families}
    print("\nfamily            result")
    for name, found in rows.items():
        print(f"{name:18s}{'the same bits' if not found else 'DIFFERS: ' + '; '.join(found)}")
    return int(any(rows.values()))


def differences(old: dict[str, Any] | None, new: dict[str, Any]) -> list[str]:
    """What is not as it was, in words; empty where every bit is."""
    if old is None:
        return ["was not recorded"]
    found = [part for part in new["bytes"] if new["bytes"][part] != old["bytes"].get(part)]
    found += [f"names of {part}" for part in new["names"] if new["names"][part] != old["names"].get(part)]
    found += [part for part in ("predictions", "steps", "scores") if new[part] != old[part]]
    if found:
        found.append(f"losses by {largest_difference(old['steps'], new['steps']):.2g} at most, relatively")
    return found


def files(args: argparse.Namespace) -> int:
    """Files of small runs, each with a checkpoint of its middle, and what the model in them finds in an image."""
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="torso-golden-") as folder, ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda name: keep(name, Path(folder) / name, args.out / name), args.families))
    return 0


def keep(name: str, work: Path, target: Path) -> None:
    """recipe.yaml, model.safetensors, checkpoints/last.ckpt (after KEPT_STEP steps) and expected.json of one family."""
    family = FAMILIES[name]
    run = train(name, f"{family.small} {family.both}", work)
    (target / "checkpoints").mkdir(parents=True)
    for file in ("recipe.yaml", "model.safetensors"):
        shutil.copy(run / file, target / file)
    # the last save is that of the run's end; the one before it came after KEPT_STEP steps
    shutil.copy(run / "checkpoints" / "last.previous.ckpt", target / "checkpoints" / "last.ckpt")
    expected = {file: found_by(target / file, work) for file in ("model.safetensors", "checkpoints/last.ckpt")}
    (target / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{name:18s}{size / 1000:8.1f} kB", flush=True)


def found_by(weights: Path, work: Path, most: int = 5) -> dict[str, Any]:
    """How many objects are found in the first image of val, and the best of them."""
    out = f"found-{weights.stem}"
    torso("predict", weights.resolve(), "set/images/val_08.png", "--out", out, "--score", "0", "--no-draw", cwd=work)
    results = json.loads((work / out / "results.json").read_text())
    best = [
        {"category_id": one["category_id"], "score": round(one["score"], 7), "bbox": [round(v, 4) for v in one["bbox"]]}
        for one in results[:most]
    ]
    return {"count": len(results), "best": best}


def commit() -> str:
    """Of this checkout, with a mark where it holds changes."""
    described = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True
    )
    return described.stdout.strip() or "unknown"


def main() -> int:
    """One of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for verb in (record, compare, files):
        one = verbs.add_parser(verb.__name__, help=verb.__doc__)
        if verb is compare:
            one.add_argument("base", type=Path, metavar="DIR", help="where `record` left golden.json")
        else:
            one.add_argument("--out", type=Path, required=True, metavar="DIR")
        one.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES), metavar="NAME")
        one.add_argument("--jobs", type=int, default=2, metavar="N", help="runs at a time, one thread each (2)")
        one.set_defaults(run=verb)
    args = parser.parse_args()
    result: int = args.run(args)
    return result


if __name__ == "__main__":
    sys.exit(main())
