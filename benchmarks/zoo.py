"""Zoo models from their default recipes on bccd: a fixed number of steps, several seeds, packed on one device.

    python benchmarks/zoo.py --data DATA --out DIR [--models fcos ...] [--seeds 0 1 2] [--steps 400] [--jobs 12]

DATA holds bccd/ (COCO form). Without --models the smallest member of each family trains. Every run is `torso train`
with the paper's recipe (model, assignment, losses, augmentation, optimiser, rate, shape of the schedule). What is not
the recipe's: the number of steps, a warm-up over a tenth of them, images of 480 x 640 (letterbox; a member with a
fixed input keeps its own size), and no compilation, which would take longer than so short a training. --pretrained FILE
(timm's tf_efficientnet_lite0) puts that backbone, pretrained, under members whose backbone is a timm classifier; the
others, and all of them without it, start at random; --everywhere puts it under those others too. So this shows that
each recipe trains and does not diverge; it ranks nobody.

A finished run is not run again and one that the limit stopped goes on from its checkpoint: repeat the command until all
is there. A run that failed is kept as its result (--again runs it anew). DIR/results.json holds the runs, DIR/zoo.json
and zoo.md the table. images/s is that of a training beside the others, its data read by --workers processes.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from _harness import SOURCES, machine, settings_match, write_json
from _packing import Packed, Results, fresh, gpu_count, read_run
from _seeds import half_width

CLASSES = 3
NEVER = "1000000"  # epochs between evaluations: the end of a run is evaluated anyway
SETTINGS = ("steps", "size", "pretrained", "batch_size", "everywhere", "flags")


# ---------------------------------------------------------------------------------------------------------- the models


def smallest() -> list[str]:
    """The member of fewest parameters of each file of the zoo."""
    from torso.parts import index, names

    families: dict[str, list[str]] = {}
    for name in names("zoo"):
        families.setdefault(index("zoo")[name].module, []).append(name)
    return [members[0] if len(members) == 1 else min(members, key=parameters) for members in families.values()]


def parameters(name: str) -> int:
    """Of the model with its default classes."""
    from torso.compose import built_on_meta
    from torso.parts import find

    return sum(p.numel() for p in built_on_meta(find(name, "zoo")()).parameters())


def recipe_of(name: str, args: argparse.Namespace) -> Any:
    """The default recipe as a Part, changed as the first lines of this file say."""
    from torso.backbones.timm import Timm
    from torso.inputs.fixed import Fixed
    from torso.parts import find, produced
    from torso.training.compose_recipe import compose_recipe

    own = find(name, "recipes")()
    changes: dict[str, Any] = {"steps": args.steps, "warmup_steps": max(args.steps // 10, 1), "compile": "no"}
    if args.batch_size:
        changes["batch_size"] = args.batch_size
    swaps = {}
    if args.pretrained and (args.everywhere or produced(own.get("model").get("backbone")) is Timm):
        swaps["backbone"] = "tf_efficientnet_lite0"
        changes["pretrained"] = str(Path(args.pretrained).resolve())
    if produced(own.get("model").get("input")) is not Fixed:
        swaps["input"] = "letterbox"
        changes["input.size_hw"] = tuple(args.size)
        for number, transform in enumerate(own.get("augment")):
            if transform.accepts("size_hw"):  # mosaics and jitter draw on the canvas that the model sees
                changes[f"augment.{number}.size_hw"] = tuple(args.size)
    return compose_recipe(name, num_classes=CLASSES, overrides=changes, **swaps)


# ------------------------------------------------------------------------------------------------------------ the runs


class Zoo(Packed):
    """Runs and their table."""

    def __init__(self, args: argparse.Namespace, recipes: dict[str, Any], device: dict[str, str]) -> None:
        self.args, self.recipes, self.machine = args, recipes, device
        self.data = str(Path(args.data) / "bccd")
        super().__init__(Path(args.out), args.limit, summary, self.write)

    def train(self, case: str, gpus: str | None) -> dict[str, Any]:
        """`torso train` of MODEL-SEED to its end, from the start or from where the limit stopped it."""
        name, _, seed = case.rpartition("-")
        folder = self.out / "runs" / case
        watching = ["--workers", str(self.args.workers), "--log-every", str(self.args.log_every)]
        watching += ["--eval-every", NEVER]
        if case not in self.results and (folder / "checkpoints" / "last.ckpt").is_file():
            verb = ["train", "--resume", str(folder), *watching]
        else:
            folder = fresh(folder)
            recipe = str(self.out / "recipes" / f"{name}.yaml")
            verb = ["train", recipe, "--data", self.data, "--out", str(folder), "--seed", seed, *watching]
            verb += self.args.flags
        found = self.run(case, verb, gpus)
        return {"model": name, "seed": int(seed), **found, **read_run(folder)}

    def write(self, results: Results) -> None:
        """zoo.json and zoo.md."""
        rows = gather(results, self.recipes)
        found = {"machine": self.machine, "command": sys.argv, "settings": settings_of(self.args), "rows": rows}
        write_json(self.out / "zoo.json", found)
        head = f"{json.dumps(self.machine)}\n\n`{' '.join(sys.argv)}`\n\n"
        (self.out / "zoo.md").write_text(head + table(rows, self.args) + "\n")


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What all results of a folder have in common."""
    return {key: getattr(args, key) for key in SETTINGS}


def outcome(found: dict[str, Any]) -> str:
    """ "done", "diverged" (a loss that is not finite, or one that ends above where it began), or "failed"."""
    if any("was not finite" in line for line in found.get("failure", [])):
        return "diverged"
    if "failure" in found or found["loss_last"] is None:
        return "failed"
    fell = math.isfinite(found["loss_last"]) and found["loss_last"] <= found["loss_first"]
    return "done" if fell else "diverged"


def summary(found: dict[str, Any]) -> str:
    """One line."""
    if outcome(found) == "failed":
        return "FAILED: " + (found.get("failure") or [f"status {found['code']}"])[-1]
    shown = {key: found.get(key) for key in ("AP", "AP50", "loss_first", "loss_last", "peak_gib", "seconds")}
    numbers = "  ".join(f"{key} {value:.3g}" for key, value in shown.items() if value is not None)
    return f"{outcome(found)}  {numbers}"


# ---------------------------------------------------------------------------------------------------------- the table


def gather(results: Results, recipes: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a model that has a run."""
    rows = []
    for name, recipe in recipes.items():
        runs = sorted((r for r in results.values() if r["model"] == name), key=lambda r: int(r["seed"]))
        if not runs:
            continue
        evaluated = [r for r in runs if r.get("AP") is not None]
        scores = {s: [100 * r[s] for r in evaluated] for s in ("AP", "AP50", "AR100")}
        ends = {k: mean([r[k] for r in runs]) for k in ("loss_first", "loss_last", "images_per_second", "peak_gib")}
        rows.append(
            {"model": name, "seeds": [r["seed"] for r in runs], "outcomes": [outcome(r) for r in runs],
             "scores": scores, "means": {s: mean(v) for s, v in scores.items()},
             "half": {s: half_width(v) for s, v in scores.items() if len(v) > 1}, **ends,
             "pretrained": recipe.get("pretrained") is not None, "batch_size": recipe.get("batch_size"),
             "size_hw": recipe.get("model").get("input").get("size_hw")}
        )  # fmt: skip
    return rows


def mean(values: list[float | None]) -> float | None:
    """Of those that are there."""
    known = [v for v in values if v is not None]
    return statistics.mean(known) if known else None


def table(rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """Markdown, a row a model."""
    head = ("model", "input", "backbone", "AP, mean +- 95 %", "each seed", "AP50", "AR100", "loss first, last")
    head += ("images/s", "peak GiB", "outcome")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for r in rows:
        half = {s: f" +- {v:.2f}" for s, v in r["half"].items()}
        spread = [number(r["means"][s]) + half.get(s, "") for s in ("AP", "AP50")]
        each = ", ".join(f"{v:.2f}" for v in r["scores"]["AP"])
        counts = {word: r["outcomes"].count(word) for word in ("done", "diverged", "failed") if word in r["outcomes"]}
        cells = [f"`{r['model']}`", "x".join(map(str, r["size_hw"])), "lite0" if r["pretrained"] else "random"]
        cells += [spread[0], each, spread[1], number(r["means"]["AR100"])]
        cells += [f"{number(r['loss_first'], 3)}, {number(r['loss_last'], 3)}", number(r["images_per_second"], 0)]
        cells += [number(r["peak_gib"]), ", ".join(f"{n} {word}" for word, n in counts.items())]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(
        f"\n{args.steps} steps of each recipe's own batch. Loss: the first row of the log and the mean of the last "
        "three (of different losses: not to be compared between models). images/s: beside "
        f"{args.jobs - 1} other trainings at most. Diverged: a loss that was not finite, or that ended above where it "
        "began. rpn finds one class and is evaluated as one."
    )
    return "\n".join(lines)


def number(value: float | None, digits: int = 2) -> str:
    """A dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


# ----------------------------------------------------------------------------------------------------------- the whole


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True, metavar="DIR", help="folder with bccd/")
    p.add_argument("--out", default="benchmarks/results/zoo", metavar="DIR")
    p.add_argument("--models", nargs="+", default=None, help="the smallest of each family if not given")
    p.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    p.add_argument("--steps", type=int, default=400)
    p.add_argument("--jobs", type=int, default=12, help="trainings side by side (12)")
    p.add_argument("--limit", type=float, default=540.0, metavar="SECONDS", help="of this call (540)")
    p.add_argument("--pretrained", default=None, metavar="FILE", help="of tf_efficientnet_lite0, timm's keys")
    p.add_argument("--everywhere", action="store_true", help="--pretrained under bodies of ours too")
    p.add_argument("--size", nargs=2, type=int, default=[480, 640], metavar=("HEIGHT", "WIDTH"))
    p.add_argument("--batch-size", type=int, default=None, help="the recipe's own if not given")
    p.add_argument("--workers", type=int, default=1, help="of each training (1)")
    p.add_argument("--log-every", type=int, default=10)
    p.add_argument("--again", action="store_true", help="run failed and diverged runs again")
    p.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="the rest goes to every torso train")
    return p.parse_args()


def main() -> int:
    args = parse()
    sys.path.insert(0, str(SOURCES))
    from torso.yaml_text import to_yaml

    out, gpus = Path(args.out), gpu_count()
    recipes = {name: recipe_of(name, args) for name in args.models or smallest()}
    (out / "recipes").mkdir(parents=True, exist_ok=True)
    for name, recipe in recipes.items():
        (out / "recipes" / f"{name}.yaml").write_text(to_yaml(recipe))
    zoo = Zoo(args, recipes, machine("cuda" if gpus else "cpu"))
    settings_match(out, settings_of(args))
    cases = [f"{name}-{seed}" for seed in args.seeds for name in recipes]
    again = [c for c in cases if args.again and c in zoo.results and outcome(zoo.results[c]) != "done"]
    began = time.monotonic()
    zoo.side_by_side([c for c in cases if c not in zoo.results or c in again], zoo.train, jobs=args.jobs, gpus=gpus)
    zoo.write(zoo.results)
    print((out / "zoo.md").read_text())
    missing = [c for c in cases if c not in zoo.results]
    left = f"{len(missing)} of {len(cases)} runs are left: repeat the command" if missing else "all runs are done"
    print(f"{left} ({time.monotonic() - began:.0f} s)")
    return int(any(outcome(r) == "failed" for r in zoo.results.values()))


if __name__ == "__main__":
    sys.exit(main())
