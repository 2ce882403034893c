"""torso beside Ultralytics and LibreYOLO on seven small real sets: whole commands by the wall clock, AP on test.

    python benchmarks/wild.py prepare --data DATA --out SETS
    python benchmarks/wild.py run SETS OUT [--cases NAME ...] [--seeds 0 1 2] [--jobs N] [--workers W] [--limit SECONDS]
    python benchmarks/wild.py report OUT [--against CASE ...]

A run is a case (a library's own training command) on a set with a seed. It trains on train, its library picks its best
weights by val, and is evaluated on test, which picks nothing: peers by their own predict at their own settings (score
at least 0.001, 300 boxes at most) by faster-coco-eval, torso by `torso eval`. All start from random weights unless a
case says otherwise. Ultralytics (AGPL) and LibreYOLO (MIT) are imported, nothing of them is copied.

"seconds" runs from the start of the command to its end, "first step" from there to the end of the first optimizer step.
A row says "alone" where one run had the machine (--jobs 1), else how many ran at once: the two are never put together.
OUT/runs.jsonl gets a line when a run is evaluated; what has a line is not run again, what the limit cuts off or is
likely to cut off is left for the next call: repeat the command until all is there. A failed run is a line too (--again
runs it anew). --case NAME=LIBRARY:MODEL,FLAG,FLAG adds a case: "--case x=torso:tal_s,--epochs,50,--lr,0.001" or
"--case v8n=ultralytics:yolov8n.yaml".
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from _harness import SOURCES, machine, write_json
from _packing import end, fresh, gpu_count, visible
from _wild_report import gather, markdown
from _wild_sets import SOURCES_OF, prepare, write_yaml

WORKER = Path(__file__).with_name("_wild_peers.py")
QUIET = {
    "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "true", "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
}  # fmt: skip
"""For peers: nothing is fetched or sent."""
LIBRARIES = ("torso", "ultralytics", "libreyolo")

Row = dict[str, Any]


class Case(NamedTuple):
    """model: None where the library chooses. flags: of `torso train`, behind those of every run."""

    library: str
    model: str | None
    flags: tuple[str, ...] = ()


CASES = {
    "ultralytics-yolov8s": Case("ultralytics", "yolov8s.yaml"),
    "libreyolo-yolo9s": Case("libreyolo", "LibreYOLO9-s"),
    "libreyolo-yoloxs": Case("libreyolo", "LibreYOLOX-s"),
    "torso-tal_s": Case("torso", "tal_s", ("--epochs", "{epochs}")),
    "torso-yolox_s": Case("torso", "yolox_s", ("--epochs", "{epochs}")),
    "torso-fcos": Case("torso", "fcos"),
    "torso-default": Case("torso", None),
}
"""torso-fcos and torso-default keep their recipe's own length."""


class Planned(NamedTuple):
    """One run."""

    case: str
    data: str
    seed: int
    packed: bool

    @property
    def name(self) -> str:
        """Of its folder, its log and its line."""
        return f"{self.case}-{self.data}-{self.seed}" + ("" if self.packed else "-alone")


# ---------------------------------------------------------------------------------------------------------- one run


class Runner:
    """Runs planned trainings and keeps a line of each."""

    def __init__(self, args: argparse.Namespace, cases: dict[str, Case], device: str) -> None:
        self.args, self.cases, self.device = args, cases, device
        self.sets, self.out = Path(args.sets).resolve(), Path(args.out).resolve()
        self.scratch = Path(args.scratch or args.out).resolve()
        self.end = time.monotonic() + args.limit
        self.lock = threading.Lock()
        manifest = json.loads((self.sets / "manifest.json").read_text())["sets"]
        self.digests = {name: row["sha256"] for name, row in manifest.items()}
        self.images = {name: row["train"]["images"] for name, row in manifest.items()}
        self.classes = {name: row["classes"] for name, row in manifest.items()}
        self.machine = {**machine(device), "cores": len(os.sched_getaffinity(0)), "host": platform.machine()}
        self.rows = read_rows(self.out)
        self.check_settings()

    def check_settings(self) -> None:
        """SystemExit where OUT holds rows of other settings or sets."""
        for row in self.rows.values():
            mine = {"epochs": self.args.epochs, "imgsz": self.args.imgsz, "set_sha256": self.digests.get(row["set"])}
            theirs = {key: row[key] for key in mine}
            if theirs != mine:
                raise SystemExit(f"{self.out} holds {row['name']} of {theirs}, but {mine} is asked; give another OUT")

    def run(self, plan: Planned, gpus: str | None) -> None:
        """Train, evaluate, keep the row; TimeoutError of the whole call's limit leaves it for another."""
        run = fresh(self.scratch / "runs" / plan.name)
        run.mkdir(parents=True)
        began = time.time()
        row = self.train(plan, run, gpus)
        stamp = run / "first_step"
        row["first_step"] = round(float(stamp.read_text()) - began, 1) if stamp.is_file() else None
        if row["code"] == 0:
            row |= self.evaluate(plan, run, gpus)
        self.keep({**self.about(plan), **row})

    def train(self, plan: Planned, run: Path, gpus: str | None) -> Row:
        """The training's exit status and seconds."""
        case, data = self.cases[plan.case], self.view(plan, run)
        settings: Row = {"run": str(run / "train"), "stamp": str(run / "first_step")}
        if case.library == "torso":
            flags = [flag.format(epochs=self.args.epochs) for flag in case.flags]
            verb = ["train", *filter(None, [case.model]), "--data", str(data), "--out", settings["run"]]
            settings["arguments"] = [*verb, "--seed", str(plan.seed), "--workers", str(self.args.workers), *flags]
            settings["arguments"] += self.args.torso_flags
        else:
            settings |= {"model": case.model, "data": str(data / "data.yaml"), **self.shared(), "seed": plan.seed}
        began = time.monotonic()
        code, words = self.process(run, ["train", case.library, json.dumps(settings)], gpus)
        row: Row = {"code": code, "seconds": round(time.monotonic() - began, 1)}
        return row if code == 0 else {**row, "failure": words}

    def shared(self) -> Row:
        """What every peer is told."""
        device = "0" if self.device == "cuda" else "cpu"
        return {**{name: getattr(self.args, name) for name in ("epochs", "imgsz", "workers")}, "device": device}

    def evaluate(self, plan: Planned, run: Path, gpus: str | None) -> Row:
        """AP and AP50 on test of the best weights."""
        case, data = self.cases[plan.case], self.sets / plan.data
        if case.library == "torso":
            verb = ["-m", "torso", "eval", str(run / "train"), "--data", str(run / "data"), "--split", "test", "--json"]
            code, words = self.process(run, verb, gpus, worker=False)
            if code:
                return {"code": code, "failure": words}
            output = "\n" + (run / "output.log").read_text()
            found, _ = json.JSONDecoder().raw_decode(output, output.rindex("\n{\n") + 1)
            return {name: found[name] for name in ("AP", "AP50")}
        scores = run / "scores.json"
        truth, images = data / "annotations" / "instances_test.json", data / "images" / "test"
        settings = {"model": case.model, "run": str(run / "train"), "scores": str(scores), "truth": str(truth)}
        settings |= {"images": str(images), **self.shared()}
        code, words = self.process(run, ["evaluate", case.library, json.dumps(settings)], gpus)
        return json.loads(scores.read_text()) if code == 0 else {"code": code, "failure": words}

    def view(self, plan: Planned, run: Path) -> Path:
        """The set as this run sees it: torso COCO alone (one layout a folder), peers YOLO, labels in a copy.

        Peers write caches beside the labels: trainings side by side must not read each other's.
        """
        data, source = run / "data", self.sets / plan.data
        data.mkdir()
        (data / "images").symlink_to(source / "images")
        if self.cases[plan.case].library == "torso":
            (data / "annotations").symlink_to(source / "annotations")
        else:
            shutil.copytree(source / "labels", data / "labels")
            write_yaml(data / "data.yaml", data, self.classes[plan.data])
        return data

    def process(
        self, run: Path, command: Sequence[str], gpus: str | None, *, worker: bool = True
    ) -> tuple[int, list[str]]:
        """A command to its end or --timeout: its exit status and last lines. TimeoutError at the limit of the call."""
        paths = [str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {"CUDA_VISIBLE_DEVICES": gpus} if gpus is not None else {}
        few = {"OMP_NUM_THREADS": "2"} if self.args.jobs > 1 else {}
        quiet = QUIET if worker and command[1] != "torso" else {}
        env = {**few, **os.environ, **quiet, **own, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        full = [sys.executable, *([str(WORKER)] if worker else []), *command]
        log, latest = run / "output.log", time.monotonic() + self.args.timeout
        with log.open("w") as file:
            child = subprocess.Popen(full, stdout=file, stderr=subprocess.STDOUT, env=env, cwd=run)
        while child.poll() is None:
            time.sleep(0.1)
            now = time.monotonic()
            if now > min(latest, self.end):
                end(child)
                if now > self.end:
                    raise TimeoutError("out of time, left for another call")
                return -1, [f"stopped after {self.args.timeout:.0f} s (--timeout)"]
        return child.returncode, log.read_text(errors="replace").splitlines()[-15:]

    def about(self, plan: Planned) -> Row:
        """What a row says besides its result."""
        case = self.cases[plan.case]
        return {
            "name": plan.name, "case": plan.case, "set": plan.data, "seed": plan.seed,
            "packed": self.args.jobs if plan.packed else "alone", "workers": self.args.workers,
            "epochs": self.args.epochs, "imgsz": self.args.imgsz, "set_sha256": self.digests[plan.data],
            "library": case.library, "model": case.model, "flags": [*case.flags, *self.args.torso_flags],
            "versions": {name: version(name) for name in (case.library, "torch")},
            "machine": self.machine,
        }  # fmt: skip

    def keep(self, row: Row) -> None:
        """A line of OUT/runs.jsonl at once."""
        with self.lock:
            self.rows[row["name"]] = row
            with (self.out / "runs.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            shown = {key: row.get(key) for key in ("AP", "AP50", "seconds", "first_step")}
            print(f"{row['name']}: {row['failure'][-1:] if 'failure' in row else shown}", flush=True)

    def likely_seconds(self, plan: Planned) -> float:
        """Of a run, by what the case took before: an image's time in the slowest set; 0 where nothing is known."""
        done = [r for r in self.rows.values() if r["case"] == plan.case and r["code"] == 0]
        return max((r["seconds"] / self.images[r["set"]] for r in done), default=0.0) * self.images[plan.data]

    def attempt(self, plan: Planned, gpus: str | None) -> None:
        """A run that can end within the limit."""
        if time.monotonic() + self.likely_seconds(plan) > self.end:
            return
        try:
            self.run(plan, gpus)
        except TimeoutError as error:
            print(f"{plan.name}: {error}", flush=True)

    def all(self, plans: Sequence[Planned], gpus: int) -> None:
        """--jobs at once, spread over the GPUs."""
        with ThreadPoolExecutor(self.args.jobs) as pool:
            seen = [visible(i % gpus) if gpus else None for i in range(len(plans))]
            for done in [pool.submit(self.attempt, plan, gpu) for plan, gpu in zip(plans, seen, strict=True)]:
                done.result()


# ------------------------------------------------------------------------------------------------------ the whole


def read_rows(out: Path) -> dict[str, Row]:
    """By name, the last line of each."""
    file = out / "runs.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return {row["name"]: row for row in map(json.loads, filter(None, lines))}


def version(name: str) -> str:
    """Of a package; torso's by its sources, which need no installation."""
    if name != "torso":
        return importlib.metadata.version(name)
    scope: dict[str, str] = {}
    exec((SOURCES / "torso" / "_version.py").read_text(), scope)
    return scope["__version__"]


def case_of(text: str) -> tuple[str, Case]:
    """NAME=LIBRARY:MODEL,FLAG,..."""
    name, _, rest = text.partition("=")
    library, _, rest = rest.partition(":")
    model, *given = rest.split(",")
    if library not in LIBRARIES:
        raise argparse.ArgumentTypeError(f"expected NAME=LIBRARY:MODEL,FLAG,... of {', '.join(LIBRARIES)}, got {text}")
    return name, Case(library, model or None, tuple(given))


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = p.add_subparsers(dest="verb", required=True)
    v = verbs.add_parser("prepare", help="write the sets")
    v.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with bccd/, deeppcb/, ...")
    v.add_argument("--out", type=Path, required=True, metavar="SETS")
    v.add_argument("--sets", nargs="+", default=list(SOURCES_OF), choices=SOURCES_OF)
    v = verbs.add_parser("run", help="train and evaluate what OUT/runs.jsonl lacks")
    v.add_argument("sets", metavar="SETS")
    v.add_argument("out", metavar="OUT")
    v.add_argument("--scratch", metavar="DIR", help="for weights and logs, large (OUT)")
    v.add_argument("--case", type=case_of, action="append", default=[], metavar="NAME=LIBRARY:MODEL,FLAG,...")
    v.add_argument(
        "--cases", nargs="+", metavar="NAME", help=f"of {', '.join(CASES)}, and --case (all but the default)"
    )
    v.add_argument("--only", nargs="+", metavar="SET", help="these sets (all)")
    v.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    v.add_argument("--jobs", type=int, default=1, help="at once; 1: rows say alone (1)")
    v.add_argument("--workers", type=int, default=8, help="loader processes of each training (8)")
    v.add_argument("--epochs", type=int, default=100)
    v.add_argument("--imgsz", type=int, default=640, help="of the peers (640)")
    v.add_argument("--timeout", type=float, default=1800.0, metavar="SECONDS", help="of one run: it then failed (1800)")
    v.add_argument("--limit", type=float, default=1e9, metavar="SECONDS", help="of this call; what it cuts off is left")
    v.add_argument("--again", action="store_true", help="run failed runs again")
    v.add_argument("--torso-flags", nargs=argparse.REMAINDER, default=[], help="the rest goes to every torso train")
    v = verbs.add_parser("report", help="OUT/wild.json and wild.md")
    v.add_argument("out", metavar="OUT")
    v.add_argument("--against", nargs="+", default=["ultralytics-yolov8s"], metavar="CASE", help="paired with these")
    return p.parse_args()


def planned(args: argparse.Namespace, cases: dict[str, Case], sets: Sequence[str]) -> list[Planned]:
    """Seed by seed, so that a call that is cut off has whole seeds; of a seed the larger sets first."""
    names = args.cases or [name for name in cases if name != "torso-default"]
    if unknown := [name for name in names if name not in cases]:
        raise SystemExit(f"expected cases of {', '.join(cases)}, got {', '.join(unknown)}")
    return [Planned(c, s, seed, args.jobs > 1) for seed in args.seeds for s in sets for c in names]


def run_all(args: argparse.Namespace) -> int:
    out, gpus, cases = Path(args.out), gpu_count(), {**CASES, **dict(args.case)}
    out.mkdir(parents=True, exist_ok=True)
    runner = Runner(args, cases, "cuda" if gpus else "cpu")
    sets = sorted(args.only or runner.images, key=lambda name: -runner.images[name])
    plans = planned(args, cases, sets)
    again = {n for n, row in runner.rows.items() if args.again and row["code"] != 0}
    runner.all([p for p in plans if p.name not in runner.rows or p.name in again], gpus)
    left = [p.name for p in plans if p.name not in runner.rows]
    print(f"{len(left)} of {len(plans)} runs are left: repeat the command" if left else "all runs are done")
    return int(any(runner.rows[p.name]["code"] for p in plans if p.name in runner.rows))


def report(args: argparse.Namespace) -> int:
    out = Path(args.out)
    found = {"command": sys.argv, **gather(list(read_rows(out).values()), args.against)}
    write_json(out / "wild.json", found)
    (out / "wild.md").write_text(markdown(found))
    print((out / "wild.md").read_text())
    return 0


def main() -> int:
    args = parse()
    if args.verb == "prepare":
        prepare(args.data, args.out, args.sets)
        return 0
    return run_all(args) if args.verb == "run" else report(args)


if __name__ == "__main__":
    sys.exit(main())
