"""Necks alone in one run: ours beside mmdet 3.3.0's and torchvision's, and every neck of ours beside our FPN.

    python benchmarks/neck_speed.py --out benchmarks/results/h200 [--necks nas_fpn fpn ...] [--forms eager compiled]

Maps as of ResNet-50 (strides 8 to 32, 2, 4 and 8 times --width channels) of 8 images of 1024 x 1024 go in, P3-P7 of
256 channels come out (the matrix: 19 levels); necks and repeats as in necks.py, but NAS-FPN has the paper's 7 stacks.
  forward: eval mode, without gradients;
  step: training mode, forward and backward from given gradients of the outgoing maps to the incoming; no optimiser.
All sides: random weights, the same maps, on CUDA bf16 autocast and channels_last (peers too: their best setting).
  fpn: ours, torchvision's FeaturePyramidNetwork with LastLevelP6P7, mmdet's FPN: the same function;
  pan: ours and mmdet's PAFPN: the same function;
  nas_fpn: mmdet's NASFPN has the same graph and convolutions, but another gate in its GlobalPoolingCells, and a 1x1
  before each pooling that makes P6 and P7. `torso` has the authors' gate (max of the coarser), `torso-avg` mmdet's.
One process has all that is eager, every compiled graph one of its own; they prepare (build, compile, warm up) side by
side, then take turns, one on the device at a time, for --repeats rounds, so that what drifts drifts for all. Where a
peer cannot be imported the table says so. Operations and GB are of one eager forward: what is called but for views, and
what these read and write at two bytes each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _harness as harness
from _neck_peers import PEERS, mmdet_neck, torchvision_fpn, versions
from _neck_speed_report import MODES, report

STRIDES = (8, 16, 32)
NECKS = ("nas_fpn", "fpn", "pan", "bifpn", "pan_concat", "csp_pan", "fc_fpn", "fpn+asff", "sfam", "matrix")
PREPARING = 0.6
"""Share of --limit after which nothing more is prepared."""
REPORTING = 20.0
"""Seconds between two reports within a round."""


def sides_of(necks: list[str]) -> list[str]:
    """neck:side, peers next to ours."""
    return [f"{neck}:{side}" for neck in necks for side in ("torso", *PEERS.get(neck, ()))]


# ---------------------------------------------------------------------------------------------------- the necks


def build(side: str, width: int) -> Any:
    """A module from the list of incoming maps to the sequence of outgoing ones."""
    neck, who = side.split(":")
    if who == "mmdet":
        return mmdet_neck(neck, incoming(width), width)
    if who == "torchvision":
        return torchvision_fpn(incoming(width), width)
    return torso_neck(neck, width, "avg_from_finer" if who == "torso-avg" else "max_from_coarser")


def incoming(width: int) -> list[int]:
    return [width * s // 4 for s in STRIDES]


def torso_neck(neck: str, width: int, gate: str) -> Any:
    from necks import necks
    from torch import nn

    from torso.types import FeatureSpec

    chain = necks(width)[neck]
    if neck == "nas_fpn":
        chain = (chain[0].with_args(repeats=7, gate=gate),)
    specs: Any = [FeatureSpec(c, (s, s)) for c, s in zip(incoming(width), STRIDES, strict=True)]
    modules = []
    for p in chain:
        modules.append(p.build(specs))
        specs = modules[-1].out_specs
    return nn.Sequential(*modules)


# ---------------------------------------------------------------------------------------------------- what is timed


def maps_of(args: argparse.Namespace, device: str) -> list[Any]:
    """The incoming maps: noise from a fixed generator (on meta without values)."""
    import torch

    generator = None if device == "meta" else torch.Generator(device).manual_seed(0)
    (h, w), on_gpu = args.size, device == "cuda"
    dtype, form = (torch.bfloat16, torch.channels_last) if on_gpu else (torch.float32, torch.contiguous_format)
    shapes = [(args.batch, c, -(-h // s), -(-w // s)) for c, s in zip(incoming(args.width), STRIDES, strict=True)]
    return [torch.randn(s, generator=generator, device=device, dtype=dtype).to(memory_format=form) for s in shapes]


def forward_of(side: str, form: str, module: Any, device: str) -> Callable[[list[Any]], Any]:
    import torch

    from torso.layers.compiling import compiled

    def run(maps: list[Any]) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            return module(maps)

    if form == "eager":
        return run
    return compiled(run) if ":torso" in side else torch.compile(run, dynamic=False)


def call_of(side: str, key: str, args: argparse.Namespace) -> Callable[[], Any]:
    import torch

    mode, form = key.split(":")
    torch.manual_seed(0)
    module = build(side, args.width).to(args.device)
    if args.device == "cuda":
        module = module.to(memory_format=torch.channels_last)
    maps = maps_of(args, args.device)
    if mode == "forward":
        infer = forward_of(side, form, module.eval(), args.device)
        return torch.no_grad()(lambda: infer(maps))
    with torch.no_grad():
        outgoing = forward_of(side, "eager", module.eval(), args.device)(maps)
    gradients = [torch.randn_like(x) for x in outgoing]
    run = forward_of(side, form, module.train(), args.device)
    leaves = [*module.parameters(), *(x.requires_grad_() for x in maps)]

    def step() -> None:
        out = run(maps)
        for leaf in leaves:
            leaf.grad = None
        torch.autograd.backward(list(out), gradients)

    return step


def counts(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """Without running it: parameters, multiply-adds of an image, and of a batch the operations and their bytes."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    class Traffic(TorchDispatchMode):
        operations = elements = 0

        def __torch_dispatch__(self, func: Any, kinds: Any, given: Any = (), named: Any = None) -> Any:
            out = func(*given, **(named or {}))
            if not func.is_view and func is not torch.ops.aten.empty.memory_format:
                self.operations += 1
                touched = [x for x in tree_leaves((given, named, out)) if isinstance(x, torch.Tensor)]
                self.elements += sum(x.numel() for x in touched)
            return out

    with torch.device("meta"):
        module = build(side, args.width).eval()
    maps = maps_of(args, "meta")
    with torch.no_grad(), Traffic() as traffic:
        out = module(maps)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:  # takes operations apart, so by itself
        module(maps)
    return {
        "parameters": sum(p.numel() for p in module.parameters()),
        "multiply_adds": counter.get_total_flops() // 2 // args.batch,
        "operations": traffic.operations,
        "bytes": 2 * traffic.elements,
        "levels": [list(x.shape[1:]) for x in out],
    }


# ---------------------------------------------------------------------------------------------------- one process


def worker(args: argparse.Namespace) -> None:
    """Prepare the calls of some sides; at each turn measure all of them. One JSON, written after every call."""
    import torch

    began, on_gpu = time.perf_counter(), args.device == "cuda"
    stem = Path(args.files) / harness.name_of(args.worker)
    result: dict[str, Any] = {side: {"times": {}, "errors": {}, "prepare_s": {}} for side in args.sides}
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    # Whatever guards compiled code is set before it is compiled; matmul's TF32 does, cuDNN's does not.
    harness.allow_fast_kernels(args.device)
    if on_gpu:  # cuDNN keeps its choice of kernel under a key that has this flag: it chooses again when it is alone
        torch.backends.cudnn.allow_tf32 = False
    for side in args.sides:
        for key in args.keys:
            try:
                result[side] |= {} if "parameters" in result[side] else counts(side, args)
                calls[side, key] = made(side, key, args)
                result[side]["prepare_s"][key] = time.perf_counter() - began
            except Exception as error:  # a failed call is a result, the others go on
                result[side]["errors"][key] = said(error)
    if on_gpu:
        harness.allow_fast_kernels(args.device)
        torch.cuda.empty_cache()
    harness.write_json(stem.with_suffix(".json"), result)
    stem.with_suffix(".ready").touch()
    for turn in range(args.repeats):
        harness.wait_for(stem.with_suffix(f".go{turn}"))
        last = stem.with_suffix(".last").exists()
        for (side, key), call in list(calls.items()):
            try:
                take(call, result[side]["times"].setdefault(key, {"each": []}), args, last=last)
            except Exception as error:
                del calls[side, key], result[side]["times"][key]
                result[side]["errors"][key] = said(error)
            harness.write_json(stem.with_suffix(".json"), result)
        stem.with_suffix(f".done{turn}").touch()


def made(side: str, key: str, args: argparse.Namespace) -> Callable[[], Any]:
    """The call, once it has run."""
    if time.time() > args.until:
        raise TimeoutError("not prepared in time: give more with --limit")
    call = call_of(side, key, args)
    for _ in range(2 if args.device == "cuda" else 1):
        call()
    harness.synchronise(args.device)
    return call


def take(call: Callable[[], Any], kept: dict[str, Any], args: argparse.Namespace, *, last: bool) -> None:
    """A block of calls, and last (a profiler that has run slows what follows) their kernels.

    gib: the most that is held beyond what lies there before.
    """
    import torch

    on_gpu = args.device == "cuda"
    before = torch.cuda.memory_allocated() if on_gpu else 0
    found = harness.measure(call, args.device, 1)
    kept["each"].append(found["ms"])
    kept |= {"ms": statistics.median(kept["each"]), "ms_min": min(kept["each"]), "block": found["block"]}
    if not on_gpu:
        return
    kept["gib"] = found["peak_gib"] - before / 2**30
    if last:
        kept |= harness.kernels(call)
        kept["costliest"] = kept["costliest"][:12]
    torch.cuda.empty_cache()


def said(error: Exception) -> str:
    """For the table; the whole goes to the log."""
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:400]


# ---------------------------------------------------------------------------------------------------- the driver


def jobs_of(args: argparse.Namespace) -> dict[str, tuple[list[str], list[str]]]:
    """Processes, each with its sides and keys: one for all that is eager, one for every graph that is compiled."""
    sides = sides_of(args.necks)
    jobs = {"eager": (sides, [f"{mode}:eager" for mode in reversed(MODES)])} if "eager" in args.forms else {}
    if "compiled" in args.forms:
        keys = [(side, f"{mode}:compiled") for side in sides for mode in reversed(MODES)]
        jobs |= {f"{side}:{key}": ([side], [key]) for side, key in keys}
    return jobs


class Job:
    """A process and the files by which it is spoken to."""

    def __init__(self, name: str, sides: list[str], keys: list[str], args: argparse.Namespace, files: Path) -> None:
        self.name, self.sides, self.keys, self.stem = name, sides, keys, files / harness.name_of(name)
        command = [__file__, "--worker", name, "--sides", *sides, "--keys", *keys, "--files", str(files)]
        command += harness.flags(args, "until", "device", "batch", "size", "width", "repeats")
        self.process = harness.start(command, self.stem.with_suffix(".log"))

    def reached(self, suffix: str) -> bool:
        """The file is there, or will never be."""
        return self.process.poll() is not None or self.stem.with_suffix(suffix).exists()

    def wait(self, suffix: str, deadline: float) -> None:
        while not self.reached(suffix) and time.time() < deadline:
            time.sleep(0.02)

    def results(self) -> dict[str, Any]:
        """What it wrote, by side; where it wrote nothing, why."""
        file = self.stem.with_suffix(".json")
        if file.is_file():
            found: dict[str, Any] = json.loads(file.read_text())
            return found
        tail = self.stem.with_suffix(".log").read_text(errors="replace").splitlines()[-3:]
        lost = " ".join([f"not prepared in time or died, exit status {self.process.poll()}:", *tail])[-400:]
        return {side: {"times": {}, "errors": dict.fromkeys(self.keys, lost)} for side in self.sides}


def drive(args: argparse.Namespace) -> None:
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "2")  # in each of up to 32 processes
    began = time.time()
    args.until, deadline = began + PREPARING * args.limit, began + args.limit
    Path(args.out).mkdir(parents=True, exist_ok=True)
    about = {"machine": harness.machine(args.device), "versions": versions(), "command": " ".join(sys.argv)}
    about |= {"settings": {name: getattr(args, name) for name in ("batch", "size", "width", "repeats", "forms")}}
    with tempfile.TemporaryDirectory() as folder:
        jobs = prepare(args, Path(folder), latest=args.until + 0.1 * args.limit)
        print(f"prepared in {time.time() - began:.0f} s", flush=True)
        harness.await_device(args, deadline)
        take_rounds(jobs, args, deadline, lambda: report(about, args, [job.results() for job in jobs]))
        for job in jobs:
            job.process.kill()  # all that they had to say is written
            job.process.wait()
        report(about, args, [job.results() for job in jobs])
        print(Path(args.out, "neck_speed.md").read_text() + f"{time.time() - began:.0f} s in all")


def take_rounds(jobs: list[Job], args: argparse.Namespace, deadline: float, say: Callable[[], None]) -> None:
    """A turn of every process, --repeats times or until the deadline.

    say: writes the report; after every round but the last, and within one every REPORTING seconds at most: with many
    processes it takes as long as their turns.
    """
    took, said_at = 0.0, time.time()
    for turn in range(args.repeats):
        began = time.time()
        last = turn == args.repeats - 1 or began + 3 * took > deadline  # profiling takes about two rounds
        for job in jobs:
            if last:
                job.stem.with_suffix(".last").touch()
            job.stem.with_suffix(f".go{turn}").touch()
            job.wait(f".done{turn}", deadline)
            if time.time() - said_at > REPORTING:
                say()
                said_at = time.time()
        took = time.time() - began
        if last or time.time() > deadline:
            print(f"{turn + 1} of {args.repeats} rounds" + (", cut off" if time.time() > deadline else ""))
            break
        say()
        said_at = time.time()


def prepare(args: argparse.Namespace, files: Path, latest: float) -> list[Job]:
    """--jobs processes preparing at once; what is still compiling at `latest` is ended."""
    jobs: list[Job] = []
    for name, (sides, keys) in jobs_of(args).items():
        while sum(not job.reached(".ready") for job in jobs) >= args.jobs and time.time() < latest:
            time.sleep(0.05)
        jobs.append(Job(name, sides, keys, args, files))
    for job in jobs:
        job.wait(".ready", latest)
    for job in jobs:
        if job.name != "eager" and not job.reached(".ready"):
            job.process.kill()  # compiling would disturb the others; the report says that it was not prepared
            job.process.wait()
    return jobs


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default="benchmarks/results/local")
    p.add_argument("--necks", nargs="+", choices=NECKS, default=list(NECKS))
    p.add_argument("--forms", nargs="+", choices=["eager", "compiled"], help="both on CUDA, eager on the CPU")
    p.add_argument("--device", default="cuda")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--size", nargs=2, type=int, default=[1024, 1024], metavar=("HEIGHT", "WIDTH"))
    p.add_argument("--width", type=int, default=256)
    p.add_argument("--repeats", type=int, default=7, help="rounds in which every side has its turn")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that prepare at once")
    p.add_argument("--limit", type=float, default=540.0, help="seconds; the report has what was measured until then")
    harness.add_after(p)
    p.add_argument("--until", type=float, help=argparse.SUPPRESS)
    p.add_argument("--files", help=argparse.SUPPRESS)
    p.add_argument("--worker", help=argparse.SUPPRESS)
    p.add_argument("--sides", nargs="+", help=argparse.SUPPRESS)
    p.add_argument("--keys", nargs="+", help=argparse.SUPPRESS)
    args = p.parse_args()
    args.forms = args.forms or (["eager", "compiled"] if args.device == "cuda" else ["eager"])
    if args.worker:
        worker(args)
    else:
        drive(args)


if __name__ == "__main__":
    main()
