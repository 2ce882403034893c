"""Several `torso` commands at once, each in a process of its own, what is done kept in one file and not done again."""

from __future__ import annotations

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

from _harness import SOURCES, write_json

STOPPED = 143
MARK = "peak memory "

Results = dict[str, dict[str, Any]]


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
            [sys.executable, __file__, *self.arguments],
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


class Packed:
    """Cases side by side for so many seconds; OUT/results.json holds what each gave, OUT/logs what it said.

    summary: one line of a result. report: called with all results after every case, as a call may be cut off any time.
    """

    def __init__(
        self, out: Path, limit: float, summary: Callable[[dict[str, Any]], str], report: Callable[[Results], None]
    ) -> None:
        self.out, self.summary, self.report = out, summary, report
        self.end = time.monotonic() + limit
        self.lock = threading.Lock()
        self.file = out / "results.json"
        self.results: Results = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def run(
        self, case: str, verb: Sequence[str], gpus: str | None, stop: Callable[[], bool] | None = None
    ) -> dict[str, Any]:
        """A verb to its end; TimeoutError at the limit. stop: a SIGTERM as soon as this is true."""
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

    def attempt(self, case: str, work: Callable[[str, str | None], dict[str, Any]], gpus: str | None) -> None:
        """work(case, gpus), its result kept; one that the limit cuts off is left for another call."""
        if time.monotonic() > self.end:
            return
        try:
            self.keep(case, work(case, gpus))
        except TimeoutError as error:
            print(error, flush=True)

    def side_by_side(
        self, cases: Sequence[str], work: Callable[[str, str | None], dict[str, Any]], *, jobs: int, gpus: int
    ) -> None:
        """So many at once, spread over the GPUs."""
        with ThreadPoolExecutor(jobs) as pool:
            waiting = [
                pool.submit(self.attempt, case, work, visible(number % gpus) if gpus else None)
                for number, case in enumerate(cases)
            ]
        for one in waiting:
            one.result()

    def keep(self, case: str, found: dict[str, Any]) -> None:
        """Into the files at once."""
        with self.lock:
            self.results[case] = found
            write_json(self.file, self.results)
            self.report(self.results)
            print(f"{case}: {self.summary(found)}", flush=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL where that does not end it in twenty seconds."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def visible(number: int) -> str:
    """The GPU of this number among those that this process sees, as CUDA_VISIBLE_DEVICES names it."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[number] if named else str(number)


def gpu_count() -> int:
    """Asked in a process of its own: this one must not hold memory of a GPU."""
    code = "import torch; print(torch.cuda.device_count())"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


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
    evaluated = json.loads(history.read_text()) if history.is_file() else []
    scores = evaluated[-1]["scores"] if evaluated else {}
    return {
        "steps": int(rows[-1]["step"]) if rows else 0,
        "loss_first": losses[0] if losses else None,
        "loss_last": statistics.mean(losses[-3:]) if losses else None,
        "images_per_second": round(statistics.median(speeds), 1) if speeds else None,
        **{name: scores.get(name) for name in ("AP", "AP50", "AR100")},
    }


if __name__ == "__main__":
    sys.exit(child(sys.argv[1:]))
