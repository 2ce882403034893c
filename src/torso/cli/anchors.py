"""`torso anchors`: anchor shapes fitted to the boxes of a data set, beside what a model's own priors can reach."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torso.cli import _allow
from torso.cli._bounds import check_holdout
from torso.cli._flags import Parser, UsageError
from torso.parts import names, nearest

if TYPE_CHECKING:
    from torso.anchors.reach import PriorLevel, Reach
    from torso.data.annotations import Annotations
    from torso.inputs._base import Input
    from torso.parts import Part

STRIDES = (8, 16, 32)
COUNT = 9


def add_arguments(parser: Parser) -> None:
    """Of `torso anchors`."""
    parser.add_argument("data", metavar="DIR", help="a folder in COCO, Pascal VOC or YOLO layout; found by looking")
    parser.add_argument(
        "--model",
        metavar="NAME|FILE.yaml",
        help="fit for its levels and input, and compare with its priors; without "
        f"it: levels of stride {', '.join(map(str, STRIDES))}",
    )
    parser.add_argument("--count", type=int, metavar="N", help=f"shapes in all; the model's number, or {COUNT}")
    parser.add_argument("--size", nargs=2, type=int, metavar=("H", "W"), help="input; the model's own, or 640 640")
    parser.add_argument("--iou", type=float, default=0.5, metavar="T", help="IoU that reaches an object (0.5)")
    parser.add_argument("--split", default="train", metavar="NAME", help="of the data set (train)")
    parser.add_argument("--holdout", type=float, default=0.2, metavar="SHARE", help="as in train: 0.2")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the search (0)")
    parser.add_argument("--json", action="store_true", help="as JSON, shares 0..1")
    _allow.add_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Fit, compare, print."""
    _check(args)
    from torso.anchors.fit import fit_levels
    from torso.anchors.reach import best_overlap, input_boxes, reach
    from torso.data.splits import open_split

    asked = _of_model(args) if args.model else _plain(args)
    annotations, notes = open_split(args.data, args.split, args.holdout)
    boxes = input_boxes(annotations, asked.policy, asked.multiple)
    if not len(boxes.sizes_wh):
        raise ValueError(f"{args.split} of {args.data} has no boxes to fit to; check it with torso doctor")
    fitted = fit_levels(
        boxes, asked.per_level, asked.strides_yx, offset=asked.offset, threshold=args.iou, placed=asked.placed,
        seed=args.seed,
    )  # fmt: skip
    tables = {"fitted": fitted, **({"present": asked.present} if asked.present else {})}
    best = {name: best_overlap(boxes, levels, placed=asked.placed) for name, levels in tables.items()}
    found = {name: reach(one, annotations, args.iou) for name, one in best.items()}
    if args.json:
        print(json.dumps(_as_json(notes, asked, fitted, found), indent=1))
    else:
        print("\n".join([*notes, *_page(args, annotations, asked, fitted, found)]))
    return 0


class _Asked(NamedTuple):
    """What is fitted for. path: of the priors within the recipe; present: the model's own, none without a model.

    placed: whether the assigner meets priors where they stand, or compares shapes alone.
    """

    policy: Input
    multiple: int
    strides_yx: list[tuple[int, int]]
    offset: float
    per_level: list[int]
    path: str
    present: list[PriorLevel]
    placed: bool = True


def _plain(args: argparse.Namespace) -> _Asked:
    from torso.inputs.letterbox import Letterbox

    policy = Letterbox(size_hw=tuple(args.size)) if args.size else Letterbox()
    per_level = _shares(COUNT if args.count is None else args.count, len(STRIDES), equal=False)
    return _Asked(policy, max(STRIDES), [(s, s) for s in STRIDES], 0.5, per_level, "head.priors", [])


def _of_model(args: argparse.Namespace) -> _Asked:
    """The levels, priors and input of a zoo model; UsageError for one without anchors."""
    from torso.anchors.coverage import assigner_of, compares_centred
    from torso.anchors.reach import levels_of, placed_shapes
    from torso.compose import built_on_meta
    from torso.inputs.letterbox import Letterbox
    from torso.training.compose_recipe import compose_recipe

    recipe = compose_recipe(Path(args.model) if _is_file(args.model) else args.model)
    model: Part[Any] = recipe.get("model")
    path, priors = _priors(model, args.model)
    built = built_on_meta(model)
    head: Any = getattr(built.head, "proposer", built.head)
    own = placed_shapes(priors.build(head.priors.strides_yx))  # on the CPU, where its shapes have values
    if own is None:
        raise UsageError(_no_anchors(args.model))
    if args.count is None:
        per_level = [len(shapes) for shapes in own.shapes()]
    else:
        per_level = _shares(args.count, len(own.strides_yx), equal=bool(head.shared))
    placed = not compares_centred(assigner_of(recipe.get("criterion").build()))
    policy = Letterbox(size_hw=tuple(args.size)) if args.size else built.input
    return _Asked(policy, built.multiple, own.strides_yx, own.offset, per_level, path, levels_of(own), placed)


def _priors(model: Part[Any], name: str) -> tuple[str, Part[Any]]:
    """Where a model keeps its priors, and them."""
    path, head = "head", model.get("head")
    if head.accepts("proposer"):
        path, head = "head.proposer", head.get("proposer")
    if not head.accepts("priors"):
        raise UsageError(_no_anchors(name, "the cells of a grid" if _has_cells(head) else "points"))
    return f"{path}.priors", head.get("priors")


def _has_cells(head: Part[Any]) -> bool:
    from torso.heads.grid import GridHead
    from torso.parts import produced

    return issubclass(produced(head), GridHead)


def _no_anchors(name: str, starts: str = "points") -> str:
    return f"{name} predicts from {starts} and has no anchors to fit; name a model with anchors, such as retinanet"


def _shares(count: int, levels: int, *, equal: bool) -> list[int]:
    """So many shapes over so many levels, what is left over on the finer ones."""
    each, rest = divmod(count, levels)
    if each == 0 or (equal and rest):
        wanted = f"a multiple of {levels}: its levels share one head" if equal else f"at least {levels}"
        raise UsageError(f"--count {count} came for {levels} levels; {wanted} was wanted")
    return [each + (i < rest) for i in range(levels)]


def _check(args: argparse.Namespace) -> None:
    if not Path(args.data).is_dir():
        raise UsageError(f"{args.data}: no such folder; the folder of a data set was wanted: check the path")
    check_holdout(args.holdout)
    if not 0 < args.iou < 1:
        raise UsageError(f"--iou {args.iou} came; a number between 0 and 1 was wanted")
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed} came; 0 or more was wanted")
    if args.count is not None and args.count < 1:
        raise UsageError(f"--count {args.count} came; at least 1 was wanted")
    if args.size and min(args.size) < 1:
        raise UsageError(f"--size {args.size[0]} {args.size[1]} came; a positive height and width were wanted")
    if args.model and _is_file(args.model) and not Path(args.model).is_file():
        raise UsageError(f"--model {args.model}: no such file; a recipe that `torso show` printed was wanted")
    if args.model and not _is_file(args.model) and not _allow.check_name("--model", args.model):
        _check_zoo(args.model)


def _check_zoo(model: str) -> None:
    if model not in names("zoo"):
        raise UsageError(f"no model is called {model!r}; {nearest(model, names('zoo'))}")


def _is_file(model: str) -> bool:
    return model.endswith((".yaml", ".yml"))


def _sizes(levels: list[PriorLevel]) -> list[list[list[float]]]:
    return [[[round(float(v), 1) for v in wh] for wh in level.shapes_wh] for level in levels]


def _as_json(
    notes: list[str], asked: _Asked, fitted: list[PriorLevel], found: dict[str, list[Reach]]
) -> dict[str, Any]:
    rows = {
        name: [{k: None if v != v else v for k, v in one._asdict().items()} for one in table]
        for name, table in found.items()
    }
    strides = [list(s) for s in asked.strides_yx]
    return {"notes": notes, "strides_yx": strides, "offset": asked.offset, "sizes": _sizes(fitted), "reach": rows}


def _page(
    args: argparse.Namespace,
    annotations: Annotations,
    asked: _Asked,
    fitted: list[PriorLevel],
    found: dict[str, list[Reach]],
) -> list[str]:
    lines = [
        f"{args.split} of {args.data}: {found['fitted'][0].boxes} boxes on {len(annotations)} images, measured as "
        f"the model sees them ({_policy(asked.policy)})",
        "",
        f"BPR: share of objects that some prior overlaps by at least {args.iou:g} (best possible recall); IoU: mean of "
        f"each object's best; both in percent, {_compared(asked.placed)}",
        "",
        *_table(found, {"fitted": sum(asked.per_level), "present": sum(len(x.shapes_wh) for x in asked.present)}, args),
        "",
        "fitted shapes, width x height in input pixels",
    ]
    for stride, level in zip(asked.strides_yx, _sizes(fitted), strict=True):
        name = str(stride[0]) if stride[0] == stride[1] else f"{stride[0]} x {stride[1]}"
        lines.append(f"  stride {name:>3}: " + ", ".join(f"{w:g} x {h:g}" for w, h in level))
    sizes = json.dumps(_sizes(fitted), separators=(",", ":"))
    path = asked.path
    return [
        *lines,
        "",
        "to train with them",
        f"  torso train {args.model or 'MODEL'} --data {args.data} --{path}=shapes --{path}.offset={asked.offset:g} "
        f"--{path}.sizes='{sizes}'",
        "",
        f"or in the recipe's YAML, under {path}",
        "  priors:",
        "    part: priors.shapes",
        f"    sizes: {sizes}",
        f"    offset: {asked.offset}",
    ]


def _compared(placed: bool) -> str:
    return "priors where they stand" if placed else "centred alike, as the model's assigner compares them"


def _policy(policy: Input) -> str:
    given = ", ".join(f"{k}={v}" for k, v in vars(policy).items() if isinstance(v, int | float | tuple))
    return f"{type(policy).__name__.lower()}: {given}"


def _table(found: dict[str, list[Reach]], shapes: dict[str, int], args: argparse.Namespace) -> list[str]:
    """A row a group, two columns for each set of priors."""
    titles = {"fitted": f"fitted, {shapes['fitted']}", "present": f"{args.model}'s own, {shapes['present']}"}
    width = max(len(one.group) for one in found["fitted"]) + 2
    lines = [f"{'':{width}} {'boxes':>7}" + "".join(f"  {titles[name]:>18}" for name in found)]
    lines.append(f"{'':{width}} {'':>7}" + f"  {'BPR':>9} {'IoU':>8}" * len(found))
    for rows in zip(*found.values(), strict=True):
        first = rows[0]
        name = first.group if first.group == "all" else f"  {first.group}"
        cells = [f"  {_percent(one.recall)} {_percent(one.mean_iou, 8)}" for one in rows]
        lines.append(f"{name:{width}} {first.boxes:>7}" + "".join(cells))
    return lines


def _percent(share: float, width: int = 9) -> str:
    return f"{'-':>{width}}" if math.isnan(share) else f"{100 * share:>{width}.1f}"
