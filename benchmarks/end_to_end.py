"""Every zoo model from the command line on real images: trained, evaluated, one of them killed and resumed.

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
import sys
from functools import partial
from pathlib import Path
from typing import Any

from _harness import SOURCES
from _packing import STOPPED, Packed, Results, fresh, gpu_count, read_run, rows_of

SAME_LOSS = 1e-3  # relative, in 32 bits: two GPUs add in another order than one


# ---------------------------------------------------------------------------------------------------------- the cases


class Bench(Packed):
    """Runs cases and keeps their results."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(Path(args.out), args.limit, summary, self.write)
        self.args = args
        self.data = str(Path(args.data) / "bccd")

    def write(self, results: Results) -> None:
        """results.md."""
        (self.out / "results.md").write_text(table(results))

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


def trained(bench: Bench, case: str, gpus: str | None) -> dict[str, Any]:
    """train MODEL, then eval the weights that it published."""
    model = case.partition(":")[2]
    folder = fresh(bench.out / "runs" / model)
    found = bench.run(case, bench.train_flags(model, folder), gpus)
    if found["code"] != 0:
        return found
    found.update(read_run(folder))
    evaluated = bench.run(f"{case}-eval", ["eval", str(folder), "--data", bench.data, "--batch-size", "8"], gpus)
    found["eval"] = evaluated if evaluated["code"] else {"code": 0, "seconds": evaluated["seconds"]}
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
    learning = case.endswith("sync_bn")  # frozen norms have nothing to share
    norms = [f"--backbone.frozen_norm={str(not learning).lower()}", *(["--sync-bn"] if learning else [])]
    epochs, steps = 3, 8  # of 64 images
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


def run_case(bench: Bench, case: str, gpus: str | None) -> dict[str, Any]:
    """By the first word of its name."""
    return KINDS[case.partition(":")[0]](bench, case, gpus)


# ------------------------------------------------------------------------------------------------------ the report


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
    work = partial(run_case, bench)
    for case in [c for c in open_ if c in alone]:
        bench.attempt(case, work, None)
    bench.side_by_side([c for c in open_ if c not in alone], work, jobs=args.jobs, gpus=gpus)
    print(table(bench.results))
    missing = [c for c in [*alone, *cases] if c not in bench.results]
    print(f"{len(missing)} cases are left for another call" if missing else "all cases are done")
    return int(any("failure" in found for found in bench.results.values()))


if __name__ == "__main__":
    sys.exit(main())
