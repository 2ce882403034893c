"""`torso show`: what a model is made of, what it costs, and its recipe as YAML that `torso train` takes back."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from torso.cli import _model_flags as model_flags
from torso.cli._flags import Parser, UsageError

if TYPE_CHECKING:
    from torso.summary import Level, Stage, Summary


def add_arguments(parser: Parser) -> None:
    """Of `torso show`."""
    parser.add_argument("--size", nargs=2, type=int, metavar=("H", "W"), help="input; the model's own if not given")
    parser.add_argument("--num-classes", type=int, metavar="K", help="80 if not given")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="as JSON")
    output.add_argument("--yaml", action="store_true", help="only the recipe: torso show fcos --yaml > my.yaml")
    model_flags.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Compose, count, print."""
    model_flags.check_names(args)
    recipe = model_flags.compose(args, args.num_classes)
    from torso.yaml_text import to_yaml

    if args.yaml:
        print(to_yaml(recipe), end="")
        return 0
    from torso.engine.task import task_of

    model = recipe.get("model")
    try:
        summary = task_of(model).summarise(model, tuple(args.size) if args.size else None)
    except ValueError as error:
        raise UsageError(f"--size: {error}") from error
    if args.json:
        print(json.dumps({"model": args.model, **summary.to_dict(), "recipe": recipe.to_dict()}, indent=1))
    else:
        print(_page(args.model, summary, to_yaml(recipe)))
    return 0


def _page(model: str, summary: Summary, recipe: str) -> str:
    height, width = summary.input_hw
    head = f"{model}, classes: {summary.num_classes}, input {height} x {width} (height x width)"
    if summary.tile_hw is not None:
        head += f": one tile, {summary.tile_hw[0]} x {summary.tile_hw[1]} px of a larger image"
    titles = ("part", "parameters", "that learn", "GFLOP (2 a multiply-add)")
    lines = [head, "", *_table([titles, *map(_row, summary.stages), _total(summary)])]
    lines += [
        f"FLOPs = 2 x multiply-adds of one {summary.unit}, up to the raw predictions (decoding and suppression apart)."
    ]
    for stage in summary.stages:
        lines += ["", f"{stage.stage}: {stage.part}"]
        if stage.levels:
            lines += _table([("  stride", "channels", "map (h x w)"), *map(_level, stage.levels)])
        if stage in summary.stages[-2:-1]:
            lines += [f"  stride {_stride(v.stride_yx)}: read by no head" for v in stage.levels if not v.read]
    lines += ["", f"raw predictions of one {summary.unit}"]
    lines += _table([(f"  {name}", " x ".join(map(str, shape))) for name, shape in summary.outputs.items()])
    lines += ["", "the recipe, as `torso train FILE.yaml` takes it (--yaml prints it alone)", "", recipe.rstrip()]
    return "\n".join(lines)


def _row(stage: Stage) -> tuple[str, ...]:
    return (stage.stage, f"{stage.parameters:,}", f"{stage.learnable:,}", f"{stage.flops / 1e9:.2f}")


def _level(level: Level) -> tuple[str, ...]:
    return (f"  {_stride(level.stride_yx)}", str(level.channels), f"{level.size_hw[0]} x {level.size_hw[1]}")


def _total(summary: Summary) -> tuple[str, ...]:
    return ("all", f"{summary.parameters:,}", f"{summary.learnable:,}", f"{summary.flops / 1e9:.2f}")


def _stride(stride_yx: tuple[int, int]) -> str:
    y, x = stride_yx
    return str(y) if y == x else f"{y} x {x}"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """First column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
