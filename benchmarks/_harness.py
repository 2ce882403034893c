"""What the benchmarks share: cases in processes of their own, prepared side by side and timed alone, and their files.

A script drives: `run_cases` starts a worker for every case (the script again, with --worker CASE) and gives each its
turn on the device. The worker calls `time_case`. They speak through files of one folder, named by the case with - for
its colons: .ready (prepared, or failed), .go (its turn), .json (its result), .log (what it said).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).resolve().parents[1] / "src"
PREPARING = 0.7
"""Share of --limit after which nothing more is prepared, where cases are prepared side by side."""


# ---------------------------------------------------------------------------------------------------- the machine


def machine(device: str) -> dict[str, str]:
    """What a result was measured on."""
    import torch
    import torchvision

    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.processor()} x{os.cpu_count()}"
    return {
        "device": name, "torch": torch.__version__, "torchvision": torchvision.__version__,
        "python": platform.python_version(), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def device_name(device: str) -> str:
    """The card's, or "CPU"."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def synchronise(device: str) -> None:
    """Wait for the device."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()


def allow_fast_kernels(device: str) -> None:
    """On CUDA TF32, and cuDNN trying its kernels for every shape."""
    import torch

    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True


# ---------------------------------------------------------------------------------------------------- measuring


def measure(call: Callable[[], Any], device: str, repeats: int) -> dict[str, Any]:
    """Milliseconds of a call, median and ends of `repeats` blocks, and on CUDA the peak of its memory."""
    import torch

    block = 8 if device == "cuda" else 1

    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(2 if device == "cuda" else 0):
        call()
    times = []
    for _ in range(repeats):  # a block of calls without waiting between them, as a training or serving loop runs
        synchronise(device)
        start = time.perf_counter()
        for _ in range(block):
            call()
        synchronise(device)
        times.append((time.perf_counter() - start) * 1e3 / block)
    out = {"ms": statistics.median(times), "ms_min": min(times), "ms_max": max(times)}
    out |= {"repeats": repeats, "block": block}
    if device == "cuda":
        out["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return out


def synchronisations(call: Callable[[], Any]) -> dict[str, Any]:
    """Whether one step makes the host wait: torch raises where it would."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
        return {"synchronises": False}
    except RuntimeError as error:
        return {"synchronises": str(error)[:300]}
    finally:
        torch.cuda.set_sync_debug_mode("default")


def kernels(call: Callable[[], Any]) -> dict[str, Any]:
    """Launches of one call and its sixty costliest kernels."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as p:
        call()
        synchronise("cuda")
    rows = sorted(p.key_averages(), key=lambda r: -r.self_device_time_total)
    return {
        "kernels": sum(r.count for r in rows),
        "device_ms": sum(r.self_device_time_total for r in rows) / 1e3,
        "costliest": [[r.key[:110], r.count, round(r.self_device_time_total / 1e3, 3)] for r in rows[:60]],
    }


# ---------------------------------------------------------------------------------------------------- a worker


def time_case(
    case: str,
    make: Callable[[], Callable[[], Any]],
    about: dict[str, Any],
    files: Path,
    args: argparse.Namespace,
    *,
    only_prepare: bool = False,
    also: Callable[[Callable[[], Any]], dict[str, Any]] | None = None,
) -> None:
    """Prepare one case, wait for the turn, time it, write one JSON.

    make: gives the call that is timed; its time counts as preparing. about: what the result begins with. only_prepare:
    do not wait, and write nothing unless it fails. also: what else is to be known of the call, asked once it is timed.
    """
    device = args.device
    allow_fast_kernels(device)
    result: dict[str, Any] = {"case": case, **about, "device": device}
    started = time.perf_counter()
    try:
        call = make()
        for _ in range(3 if device == "cuda" else 1):
            call()
        synchronise(device)
        result["prepare_s"] = time.perf_counter() - started
        if only_prepare:
            return
        file_of(files, case, "ready").touch()
        wait_for(file_of(files, case, "go"))
        result |= measure(call, device, args.repeats)
        if also is not None:
            result |= also(call)
        if device == "cuda":
            result |= kernels(call)
    except Exception as error:  # a failed case is a result, the others go on
        result["error"] = f"{type(error).__name__}: {error}"[:2000]
        traceback.print_exc()
    write_json(file_of(files, case, "json"), result)
    file_of(files, case, "ready").touch()


def file_of(files: Path, case: str, suffix: str) -> Path:
    """By which driver and worker speak about a case: "ready", "go", "json" or "log"."""
    return files / f"{name_of(case)}.{suffix}"


def name_of(case: str) -> str:
    """Of the case's files, without their suffix."""
    return case.replace(":", "-")


def wait_for(path: Path) -> None:
    """Until the file is there."""
    while not path.exists():
        time.sleep(0.05)


# ---------------------------------------------------------------------------------------------------- the driver


def run_cases(
    commands: Mapping[str, Sequence[str]], files: Path, args: argparse.Namespace, *, fill: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Each case by its worker's command, prepared side by side (or not: --serial), timed alone: results in order.

    fill: cases that know --only-prepare; where cases are prepared one after the other on CUDA, these are all prepared
    once before, which fills the compiler's cache (its choices of kernels are not kept).
    """
    files.mkdir(parents=True, exist_ok=True)
    for stale in files.iterdir():
        stale.unlink()
    logs = {case: file_of(files, case, "log") for case in commands}
    running: dict[str, subprocess.Popen[bytes]] = {}
    deadline = time.time() + args.limit
    if args.serial and args.device == "cuda":
        for process in [start([*commands[case], "--only-prepare"], logs[case]) for case in fill]:
            process.wait()
    for case, command in commands.items():
        running[case] = start(command, logs[case])
        if args.serial:
            take_turn(case, running.pop(case), files, deadline)
    await_ready(running, files, deadline - (1.0 - PREPARING) * args.limit)
    await_device(args, deadline)
    for case, process in running.items():
        take_turn(case, process, files, deadline)
    written = [file_of(files, case, "json") for case in commands]
    return [json.loads(p.read_text()) for p in written if p.is_file()]


def flags(args: argparse.Namespace, *names: str) -> list[str]:
    """These settings as they are passed on to a worker."""
    given = []
    for name in names:
        value = getattr(args, name)
        given += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list | tuple) else [value])]
    return given


def start(command: Sequence[str], log: Path, *, append: bool = False) -> subprocess.Popen[bytes]:
    """A Python process of this script and arguments, what it says in the log."""
    with log.open("ab" if append else "wb") as file:
        return subprocess.Popen([sys.executable, *command], stdout=file, stderr=subprocess.STDOUT)


def await_ready(running: dict[str, subprocess.Popen[bytes]], files: Path, latest: float) -> None:
    """Until all are prepared; those that are not by `latest` are ended and taken out: the others want their turns."""
    for case, process in list(running.items()):
        while not file_of(files, case, "ready").exists() and process.poll() is None:
            if time.time() > latest:
                running.pop(case).kill()
                process.wait()
                print(f"{case}: not prepared in time, not measured: give more with --limit", flush=True)
                break
            time.sleep(0.1)


def add_after(p: argparse.ArgumentParser) -> None:
    """The flag that await_device reads."""
    p.add_argument("--after", metavar="FILE", help="prepare at once, time once FILE is there")


def await_device(args: argparse.Namespace, deadline: float) -> None:
    """Until whoever uses the device says that it is free, if it was so asked."""
    while args.after and not Path(args.after).exists() and time.time() < deadline:
        time.sleep(0.1)


def take_turn(case: str, process: subprocess.Popen[bytes], files: Path, deadline: float) -> None:
    """Let a case be timed, and wait until it has ended."""
    file_of(files, case, "go").touch()
    try:
        process.wait(timeout=max(1.0, deadline - time.time()))
    except subprocess.TimeoutExpired:
        process.kill()
        print(f"{case}: not finished in time, not measured")


# ---------------------------------------------------------------------------------------------------- what is left


def write_json(file: Path, data: Any, indent: int | None = 1) -> None:
    """Whole or not at all: another process may be reading, and a call may be cut off at any time."""
    file.with_suffix(".tmp").write_text(json.dumps(data, indent=indent))
    file.with_suffix(".tmp").replace(file)


def save(file: Path, state: dict[str, Any]) -> None:
    """torch.save, whole or not at all."""
    import torch

    torch.save(state, file.with_suffix(".tmp"))
    file.with_suffix(".tmp").replace(file)


def settings_match(out: Path, settings: dict[str, Any]) -> None:
    """Results in a folder of other settings are not to be mixed with these: SystemExit; else they are kept there."""
    mine = json.loads(json.dumps(settings))
    file = out / "settings.json"
    if file.is_file() and json.loads(file.read_text()) != mine:
        raise SystemExit(f"{out} holds results of {file.read_text()}, but {mine} is asked; give another --out")
    write_json(file, mine, indent=None)
