"""Necks alone in one run: ours beside mmdet 3.3.0's and torchvision's, and every neck of ours beside our FPN.

    python benchmarks/neck_speed.py --out benchmarks/results/h200 [--necks nas_fpn fpn ...] [--forms eager compiled]

Maps as of ResNet-50 (strides 8 to 32, 2, 4 and 8 times --width channels) of 8 pictures of 1024 x 1024 go in, P3-P7 of
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
import importlib
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import detection as harness

STRIDES = (8, 16, 32)
NECKS = ("nas_fpn", "fpn", "pan", "bifpn", "pan_concat", "csp_pan", "fc_fpn", "fpn+asff", "sfam", "matrix")
PEERS = {"nas_fpn": ("torso-avg", "mmdet"), "fpn": ("torchvision", "mmdet"), "pan": ("mmdet",)}
MODES = ("forward", "step")
PREPARING = 0.6
"""Share of --limit after which nothing more is prepared."""


def sides_of(necks: list[str]) -> list[str]:
    """neck:side, peers next to ours."""
    return [f"{neck}:{side}" for neck in necks for side in ("torso", *PEERS.get(neck, ()))]


# ---------------------------------------------------------------------------------------------------- the necks


def build(side: str, width: int) -> Any:
    """A module from the list of incoming maps to the sequence of outgoing ones."""
    neck, who = side.split(":")
    if who == "mmdet":
        return mmdet_neck(neck, width)
    if who == "torchvision":
        return torchvision_fpn(width)
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


def torchvision_fpn(width: int) -> Any:
    from torch import nn
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

    class ByName(nn.Module):
        """It takes and gives dictionaries."""

        def __init__(self) -> None:
            super().__init__()
            self.fpn = FeaturePyramidNetwork(incoming(width), width, LastLevelP6P7(width, width))

        def forward(self, maps: list[Any]) -> list[Any]:
            return list(self.fpn(OrderedDict((f"c{i}", x) for i, x in enumerate(maps))).values())

    return ByName()


def mmdet_neck(neck: str, width: int) -> Any:
    stand_in_for_packages()
    from mmdet.models.necks.fpn import FPN
    from mmdet.models.necks.nas_fpn import NASFPN
    from mmdet.models.necks.pafpn import PAFPN

    if neck == "nas_fpn":
        norm = {"type": "BN", "eps": 1e-3, "momentum": 0.01}
        return NASFPN(incoming(width), width, 5, stack_times=7, norm_cfg=norm)
    extra = {"add_extra_convs": "on_output", "relu_before_extra_convs": True}
    return {"fpn": FPN, "pan": PAFPN}[neck](incoming(width), width, 5, **extra)


def stand_in_for_packages() -> None:
    """Packages of mmdet as bare folders, so that the three files import what they use and no more.

    The packages' own __init__ import all of mmdet, mmcv's compiled operations (its lite form has none), OpenCV and
    matplotlib. Every module that is run is theirs; only the names that packages re-export are gathered here.
    """
    if "mmdet" in sys.modules:
        return
    gathered = {
        "mmengine.model": ("weight_init", "base_module"), "mmcv": (), "mmcv.cnn": ("bricks",), "mmcv.ops": (),
        "mmdet": (), "mmdet.utils": ("typing_utils",), "mmdet.models": (), "mmdet.models.necks": (),
    }  # fmt: skip
    for name, files in gathered.items():
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"{name} is not installed here")
        package = types.ModuleType(name)
        package.__path__ = list(spec.submodule_search_locations or ())
        package.__spec__ = spec
        sys.modules[name] = package
        for file in files:
            found = vars(importlib.import_module(f"{name}.{file}"))
            vars(package).update({k: v for k, v in found.items() if not k.startswith("__")})


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
    """Without running it: parameters, multiply-adds of a picture, and of a batch the operations and their bytes."""
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
    stem = Path(args.files) / name_of(args.worker)
    result: dict[str, Any] = {side: {"times": {}, "errors": {}, "prepare_s": {}} for side in args.sides}
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
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
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        torch.cuda.empty_cache()
    write(stem.with_suffix(".json"), result)
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
            write(stem.with_suffix(".json"), result)
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


def name_of(job: str) -> str:
    return job.replace(":", "-")


def write(file: Path, data: dict[str, Any]) -> None:
    """Whole or not at all: the driver reads it at any time."""
    file.with_suffix(".tmp").write_text(json.dumps(data, indent=1))
    file.with_suffix(".tmp").replace(file)


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
        self.name, self.sides, self.keys, self.stem = name, sides, keys, files / name_of(name)
        command = [sys.executable, __file__, "--worker", name, "--sides", *sides, "--keys", *keys]
        command += ["--files", str(files), "--until", str(args.until), "--device", args.device]
        command += ["--batch", str(args.batch), "--size", *map(str, args.size)]
        command += ["--width", str(args.width), "--repeats", str(args.repeats)]
        with self.stem.with_suffix(".log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

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
        took = 0.0
        for turn in range(args.repeats):
            round_began = time.time()
            last = turn == args.repeats - 1 or round_began + 3 * took > deadline  # profiling takes about two rounds
            for job in jobs:
                if last:
                    job.stem.with_suffix(".last").touch()
                job.stem.with_suffix(f".go{turn}").touch()
                job.wait(f".done{turn}", deadline)
                report(about, args, jobs)
            took = time.time() - round_began
            if last or time.time() > deadline:
                print(f"{turn + 1} of {args.repeats} rounds" + (", cut off" if time.time() > deadline else ""))
                break
        for job in jobs:
            job.process.kill()  # all that they had to say is written
            job.process.wait()
        report(about, args, jobs)
        print(Path(args.out, "neck_speed.md").read_text() + f"{time.time() - began:.0f} s in all")


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


def versions() -> dict[str, str]:
    """Of the peers; "absent" where they are not installed."""
    found = {}
    for name in ("mmdet", "mmcv-lite", "mmengine"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


# ---------------------------------------------------------------------------------------------------- the report


def report(about: dict[str, Any], args: argparse.Namespace, jobs: list[Job]) -> None:
    results: dict[str, dict[str, Any]] = {}
    for job in jobs:
        for side, found in job.results().items():
            kept = results.setdefault(side, {"side": side})
            for name, value in found.items():
                kept[name] = kept.get(name, {}) | value if isinstance(value, dict) else value
    write(Path(args.out, "neck_speed.json"), {**about, "results": list(results.values())})
    errors = [f"- {side} {key}: {text}" for side, r in results.items() for key, text in r["errors"].items()]
    parts = [
        json.dumps({**about["machine"], **about["versions"]}), f"`{about['command']}`",
        f"{args.batch} pictures of {args.size[0]} x {args.size[1]}, {args.width} channels; median (least) of blocks.",
        "## Beside peers", BESIDE, peers_table(results, args.forms),
        "## Beside our FPN", necks_table(results, args.forms, args.batch),
        *(["## Not measured", "\n".join(errors)] if errors else []),
    ]  # fmt: skip
    Path(args.out, "neck_speed.md").write_text("\n\n".join(parts) + "\n")


BESIDE = """"x torso": a time divided by that of `torso` in the same form; above one ours is faster. fpn and pan compute
the same on all sides. NAS-FPN: mmdet's graph and convolutions are the same; its gate is another,
L + H * sigmoid(avg(L)) in each GlobalPoolingCell (L the finer map, H the coarser), and a 1x1 stands before each pooling
that makes P6 and P7. `torso` has the authors' gate, H + L * sigmoid(max(H)); `torso-avg` mmdet's."""


def peers_table(by_side: dict[str, dict[str, Any]], forms: list[str]) -> str:
    head = ["neck", "side", "form", "forward ms", "x torso", "step ms", "x torso", "kernels", "GiB of a step"]
    head += ["parameters", "multiply-adds (10^9)"]
    rows = []
    for side, r in by_side.items():
        neck, who = side.split(":")
        for form in forms if neck in PEERS else ():
            cells = [neck, who, form]
            for mode in MODES:
                mine = r["times"].get(f"{mode}:{form}")
                ours = by_side[f"{neck}:torso"]["times"].get(f"{mode}:{form}")
                cells += [shown(mine, r, f"{mode}:{form}"), f"{mine['ms'] / ours['ms']:.2f}" if mine and ours else ""]
            both = [r["times"].get(f"{mode}:{form}", {}) for mode in MODES]
            cells.append(" / ".join(str(t.get("kernels", "")) for t in both).strip(" /"))
            cells += [f"{both[1]['gib']:.1f}" if "gib" in both[1] else "", *sizes(r)]
            rows.append(cells)
    return markdown(head, rows)


def necks_table(by_side: dict[str, dict[str, Any]], forms: list[str], batch: int) -> str:
    """TFLOP/s: two a multiply-add forward, six a step, over the median time."""
    ours = {side.split(":")[0]: r for side, r in by_side.items() if side.endswith(":torso")}
    head = ["neck", "form", "forward ms", "x fpn", "step ms", "x fpn", "multiply-adds x fpn", "parameters"]
    head += ["multiply-adds (10^9)", "operations", "GB", "GB x fpn", "TFLOP/s forward", "TFLOP/s step", "kernels"]
    rows = []
    for neck, r in ours.items():
        fpn = ours.get("fpn", {"times": {}})
        for form in forms:
            both = [r["times"].get(f"{mode}:{form}") for mode in MODES]
            cells = [neck, form]
            for mode, mine in zip(MODES, both, strict=True):
                base = fpn["times"].get(f"{mode}:{form}")
                cells += [shown(mine, r, f"{mode}:{form}"), f"{mine['ms'] / base['ms']:.2f}" if mine and base else ""]
            cells += [over(r, fpn, "multiply_adds"), *sizes(r), str(r.get("operations", ""))]
            cells += [f"{r['bytes'] / 1e9:.2f}" if "bytes" in r else "", over(r, fpn, "bytes")]
            for mine, flops in zip(both, (2, 6), strict=True):
                cells.append(f"{flops * r['multiply_adds'] * batch / mine['ms'] / 1e9:.3g}" if mine else "")
            cells.append(" / ".join(str((t or {}).get("kernels", "")) for t in both).strip(" /"))
            rows.append(cells)
    return markdown(head, rows)


def shown(times: dict[str, Any] | None, r: dict[str, Any], key: str) -> str:
    if times:
        return f"{times['ms']:.2f} ({times['ms_min']:.2f})"
    failure = r["errors"].get(key)
    if failure and "ModuleNotFoundError" in failure:
        return "not importable"
    return "failed" if failure else "not reached"


def sizes(r: dict[str, Any]) -> list[str]:
    return [f"{r['parameters']:,}", f"{r['multiply_adds'] / 1e9:.2f}"] if "parameters" in r else ["", ""]


def over(r: dict[str, Any], base: dict[str, Any], name: str) -> str:
    return f"{r[name] / base[name]:.2f}" if name in r and name in base else ""


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


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
