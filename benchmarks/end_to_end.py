"""Every zoo model from the command line on real pictures: trained, judged, one of them killed and resumed.

    python benchmarks/end_to_end.py --data DATA --out DIR [--steps 300] [--limit 1500] [--jobs 4] [--models fcos ...]

DATA holds bccd/ (github.com/Shenggan/BCCD_Dataset as COCO: train.json, val.json, images/). --pretrained FILE puts
tf_efficientnet_lite0 with those weights under every model; without it each keeps its own backbone and starts at random,
which shows that the flags work and that the loss falls, not what a model can reach.

The verbs are torso's own with their defaults (on CUDA: bf16, compiled), several at once, each in a process of its own.
With two GPUs a model is also trained on both, and its loss compared with one GPU that sees the same effective batch:
with frozen norms, and with norms that share their statistics (--sync-bn). What is done is not done again by a further
call; results.json and results.md are written after every case.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).resolve().parents[1] / "src"
SAME_LOSS = 1e-3  # relative, in 32 bits: two GPUs add in another order than one
STOPPED = 143
MARK = "peak memory "


# --------------------------------------------------------------------------------------------------------- one process


def child(arguments: Sequence[str]) -> int:
    """`torso ARGUMENTS`, then the peak of this process's GPU memory."""
    from torso.cli.main import main

    code = main(list(arguments))
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            print(f"{MARK}{torch.cuda.max_memory_allocated() / 2**30:.3f} GiB", flush=True)
    return code


class Job:
    """One verb in a process of its own, its words in a log."""

    def __init__(self, log: Path, arguments: Sequence[str], gpus: str | None) -> None:
        self.log, self.arguments, self.began = log, list(arguments), time.monotonic()
        paths = [str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
        log.parent.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--child", *self.arguments],
            stdout=log.open("a"),
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **own},
        )

    def outcome(self) -> dict[str, Any]:
        """Of an ended process: its exit status, seconds, peak memory, and its last lines where it failed."""
        lines = self.log.read_text(errors="replace").splitlines()
        peaks = [float(line.removeprefix(MARK).split()[0]) for line in lines if line.startswith(MARK)]
        found: dict[str, Any] = {
            "code": self.process.returncode,
            "seconds": round(time.monotonic() - self.began, 1),
            "peak_gib": max(peaks, default=None),
            "command": " ".join(["torso", *self.arguments]),
        }
        if found["code"] not in (0, STOPPED):
            found["failure"] = lines[-15:]
        return found


# ---------------------------------------------------------------------------------------------------------- the cases


class Bench:
    """Runs cases and keeps their results."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out = args, Path(args.out)
        self.data = str(Path(args.data) / "bccd")
        self.lock = threading.Lock()
        self.end = time.monotonic() + args.limit
        self.file = self.out / "results.json"
        self.results: dict[str, dict[str, Any]] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def run(self, case: str, verb: Sequence[str], gpus: str | None, stop: Callable[[], bool] | None = None) -> Any:
        """A verb to its end, or to the limit; stop: a SIGTERM as soon as this is true."""
        job = Job(self.out / "logs" / f"{case.replace(':', '-')}.log", verb, gpus)
        asked = False
        while job.process.poll() is None:
            time.sleep(0.2)
            if time.monotonic() > self.end:
                end(job.process)
                raise TimeoutError(f"{case}: out of time, left for another call")
            if stop is not None and not asked and stop():
                job.process.send_signal(signal.SIGTERM)
                asked = True
        return job.outcome()

    def train_flags(self, model: str, folder: Path, *more: str) -> list[str]:
        """torso train MODEL with what this call asks for."""
        a = self.args
        backbone = ["--backbone", a.backbone] if a.backbone else []
        if a.pretrained != "none" and not a.backbone:
            backbone = ["--backbone", "tf_efficientnet_lite0"]
        return [
            "train", model, "--data", self.data, "--out", str(folder), "--steps", str(a.steps), "--pretrained",
            a.pretrained, *backbone, "--warmup-steps", str(max(a.steps // 10, 1)), *self.watching(), *a.flags, *more,
        ]  # fmt: skip

    def watching(self) -> list[str]:
        """What is not of the recipe, and so has to be said to a resumed run too."""
        a = self.args
        return ["--workers", str(a.workers), "--log-every", str(a.log_every), "--eval-every", "1000000"]

    def keep(self, case: str, found: dict[str, Any]) -> None:
        """Into the files at once: a call may be cut off at any time."""
        with self.lock:
            self.results[case] = found
            temporary = self.file.with_suffix(".tmp")
            temporary.write_text(json.dumps(self.results, indent=1))
            temporary.replace(self.file)
            (self.out / "results.md").write_text(table(self.results))
            print(f"{case}: {summary(found)}", flush=True)


def trained(bench: Bench, case: str, gpus: str | None) -> dict[str, Any]:
    """train MODEL, then eval the weights that it published."""
    model = case.partition(":")[2]
    folder = fresh(bench.out / "runs" / model)
    found = bench.run(case, bench.train_flags(model, folder), gpus)
    if found["code"] != 0:
        return found
    found.update(read_run(folder))
    judged = bench.run(f"{case}-eval", ["eval", str(folder), "--data", bench.data, "--batch-size", "8"], gpus)
    found["eval"] = judged if judged["code"] else {"code": 0, "seconds": judged["seconds"]}
    return found


def resumed(bench: Bench, case: str, gpus: str | None) -> dict[str, Any]:
    """train MODEL, SIGTERM once it learns, then --resume to the end."""
    model = case.partition(":")[2]
    folder = fresh(bench.out / "runs" / f"{model}-resumed")
    metrics = folder / "metrics.csv"
    first = bench.run(case, bench.train_flags(model, folder), gpus, stop=lambda: len(rows_of(metrics)) >= 2)
    if first["code"] != STOPPED:
        return {**first, "failure": first.get("failure", ["ended before the signal; give more --steps"])}
    at = read_run(folder)["steps"]
    second = bench.run(f"{case}-again", ["train", "--resume", str(folder), *bench.watching()], gpus)
    return {**second, **(read_run(folder) if second["code"] == 0 else {}), "stopped_at": at}


def on_two(bench: Bench, case: str, gpus: str | None) -> dict[str, Any]:
    """The same effective batch on one GPU and on two, in 32 bits: the mean losses of each epoch beside each other.

    (Several ranks read their numbers some steps late, so rows of single steps would not be of the same steps.)
    """
    norms = ["--sync-bn"] if case.endswith("sync_bn") else ["--backbone.frozen_norm=true"]
    epochs, steps = 3, 8  # of 64 pictures
    exact = [
        "--input", "letterbox", "--precision", "32", "--compile", "no", "--deterministic", "--augment", "none",
        "--steps", str(epochs * steps), "--log-every", "1000", "--warmup-steps", str(steps), "--limit", str(8 * steps),
        *norms,
    ]  # fmt: skip
    curves, both = [], {}
    for devices, batch in (("1", "8"), ("2", "4")):
        folder = fresh(bench.out / "runs" / f"{case.replace(':', '-')}-{devices}")
        flags = bench.train_flags("retinanet", folder, "--devices", devices, "--batch-size", batch, *exact)
        both = bench.run(f"{case}-{devices}", flags, gpus)
        if both["code"] != 0:
            return both
        curves.append([float(r["train/loss"]) for r in rows_of(folder / "metrics.csv")])
    found = {**both, "one": curves[0], "two": curves[1]}
    if [len(curve) for curve in curves] != [epochs, epochs]:
        return {**found, "failure": [f"{epochs} epochs were wanted; the losses are {curves}"]}
    found["apart"] = max(abs(a - b) / abs(a) for a, b in zip(*curves, strict=True))
    if found["apart"] > SAME_LOSS:
        found["failure"] = [f"losses differ by {found['apart']:.2e}, more than {SAME_LOSS}"]
    return found


KINDS = {"train": trained, "resume": resumed, "ddp": on_two}


# ------------------------------------------------------------------------------------------------------ what a run left


def fresh(folder: Path) -> Path:
    """The first of folder, folder-2, ... that is not there: what an earlier call left unfinished stays to look at."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def rows_of(metrics: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv that are of training."""
    if not metrics.is_file():
        return []
    with metrics.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("train/loss")]


def read_run(folder: Path) -> dict[str, Any]:
    """Both ends of the loss curve, speed once warm, and the scores of the last evaluation."""
    rows = rows_of(folder / "metrics.csv")
    losses = [float(r["train/loss"]) for r in rows]
    speeds = [float(r["images_per_second"]) for r in rows[len(rows) // 2 :]]
    history = folder / "history.json"
    judged = json.loads(history.read_text()) if history.is_file() else []
    scores = judged[-1]["scores"] if judged else {}
    return {
        "steps": int(rows[-1]["step"]) if rows else 0,
        "loss_first": losses[0] if losses else None,
        "loss_last": statistics.mean(losses[-3:]) if losses else None,
        "images_per_second": round(statistics.median(speeds), 1) if speeds else None,
        **{name: scores.get(name) for name in ("AP", "AP50", "AR100")},
    }


def summary(found: dict[str, Any]) -> str:
    """One line."""
    if "failure" in found:
        return "FAILED: " + (found["failure"][-1] if found["failure"] else f"status {found['code']}")
    names = ("loss_first", "loss_last", "AP", "AP50", "images_per_second", "peak_gib", "stopped_at", "apart", "seconds")
    shown = {name: found[name] for name in names if found.get(name) is not None}
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items())


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown, a row a case, failures in full below."""
    columns = ("steps", "loss_first", "loss_last", "AP", "AP50", "images_per_second", "peak_gib", "seconds")
    lines = ["| case | " + " | ".join(columns) + " | outcome |", "|" + "---|" * (len(columns) + 2)]
    for case, found in sorted(results.items()):
        values = [found.get(c) for c in columns]
        cells = ["" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]
        extra = "".join(f", {k.replace('_', ' ')} {found[k]:.3g}" for k in ("stopped_at", "apart") if k in found)
        bad = "failure" in found or found.get("eval", {}).get("code")
        lines.append(f"| {case} | {' | '.join(cells)} | {'failed' if bad else 'done'}{extra} |")
    for case, found in sorted(results.items()):
        told = found.get("failure") or found.get("eval", {}).get("failure")
        if told:
            lines += ["", f"## {case}", "", f"`{found.get('command', case)}`", "", "```", *told, "```"]
    return "\n".join(lines) + "\n"


# --------------------------------------------------------------------------------------------------------- the whole


def gpu_count() -> int:
    """Asked in a process of its own: this one must not hold memory of a GPU."""
    code = "import torch; print(torch.cuda.device_count())"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--limit", type=float, default=1500.0, metavar="SECONDS", help="of this call (1500)")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=4, help="processes at once (4)")
    parser.add_argument("--workers", type=int, default=3, help="of each process (3)")
    parser.add_argument("--log-every", type=int, default=10)
    parser.add_argument("--models", nargs="+", default=None, help="all of the zoo if not given")
    parser.add_argument("--resume-model", default="fcos", help="the one that is killed and resumed (fcos)")
    parser.add_argument("--pretrained", default="none", metavar="FILE")
    parser.add_argument("--backbone", default=None, metavar="NAME", help="under every model, to try the script")
    parser.add_argument("--again", action="store_true", help="run failed cases again")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="the rest goes to every torso train")
    return parser.parse_args()


def main() -> int:
    args = parse()
    sys.path.insert(0, str(SOURCES))
    from torso.parts import names

    bench, gpus = Bench(args), gpu_count()
    cases = [f"resume:{args.resume_model}", *(f"train:{name}" for name in args.models or names("zoo"))]
    alone = ["ddp:frozen", "ddp:sync_bn"] if gpus >= 2 else []
    open_ = [c for c in [*alone, *cases] if c not in bench.results or (args.again and "failure" in bench.results[c])]
    for case in [c for c in open_ if c in alone]:
        attempt(bench, case, None)
    side_by_side(bench, [c for c in open_ if c not in alone], gpus)
    print(table(bench.results))
    missing = [c for c in [*alone, *cases] if c not in bench.results]
    print(f"{len(missing)} cases are left for another call" if missing else "all cases are done")
    return int(any("failure" in found for found in bench.results.values()))


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL where that does not end it in twenty seconds."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def attempt(bench: Bench, case: str, gpus: str | None) -> None:
    """Run a case and keep its result; one that the limit cuts off is left for another call."""
    if time.monotonic() > bench.end:
        return
    try:
        bench.keep(case, KINDS[case.partition(":")[0]](bench, case, gpus))
    except TimeoutError as error:
        print(error, flush=True)


def side_by_side(bench: Bench, cases: list[str], gpus: int) -> None:
    """So many at once, spread over the GPUs."""
    waiting = []
    with ThreadPoolExecutor(bench.args.jobs) as pool:
        for number, case in enumerate(cases):
            waiting.append(pool.submit(attempt, bench, case, str(number % gpus) if gpus else None))
    for one in waiting:
        one.result()


if __name__ == "__main__":
    sys.exit(child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main())
