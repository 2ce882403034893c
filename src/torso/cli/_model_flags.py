"""The flags that compose a model and its recipe, for `show` and `train`; read from the sources, not typed twice."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torso.cli import _allow, _bounds
from torso.cli import _views as views
from torso.cli._bounds import shown
from torso.cli._flags import Parser, UsageError
from torso.cli._remedies import sentence
from torso.cli._signature import Argument, ancestors, read_signature
from torso.folders import chained
from torso.parts import PartError, is_name, names, nearest, singular
from torso.training.criteria._old_names import DENSE

if TYPE_CHECKING:
    from torso.parts import Part
    from torso.training.recipes.recipe import Recipe

SLOTS = {
    "backbone": "backbones",
    "neck": "necks",
    "head": "heads",
    "criterion": "criteria",
    "assigner": "assigners",
    "cls_loss": "losses",
    "box_loss": "losses",
    "sampler": "samplers",
    "suppression": "suppression",
    "input": "inputs",
}
_FLAGS = {"scales": "--train-scales"}  # of the recipe; --scales alone is how predict and eval look at an image
_ELSEWHERE = {
    "--scales": "it is of predict and eval; sizes of training are --train-scales, of the model --input pyramid",
    "--flip": "it is of predict and eval; training mirrors by its --augment",
}
_EPILOG = """\
Any argument of any part is a dotted flag: --neck.channels=128 --head.tower 2 --assigner.positive=0.6
--input.size_hw=512,512. --backbone.block=cbam --backbone.block_strides=16,32 puts a block (torso parts blocks) into the
backbone's stages. `torso parts necks.fpn` lists the arguments of a part, `torso show MODEL` the values in use."""


def add_arguments(parser: Parser, *, optional: bool = False) -> None:
    """MODEL (which may be missing, where optional), the swap flags, the recipe's own arguments, and dotted flags."""
    parser.add_argument(
        "model",
        nargs="?" if optional else None,
        metavar="MODEL|FILE.yaml",
        help=f"{', '.join(names('zoo'))}, or a recipe that `torso show` printed",
    )
    swap = parser.add_argument_group("swap a part")
    for slot, kind in SLOTS.items():
        swap.add_argument(_flag(slot), metavar="NAME", help=_choices(slot, kind))
    views.add_tile_arguments(parser)
    _allow.add_argument(parser)
    recipe = parser.add_argument_group("the recipe (what each means: torso parts recipes.recipe)")
    for argument in read_signature("recipes", "recipe").arguments:
        if argument.name not in _recipe_arguments():
            continue
        switch: dict[str, Any] = {"nargs": "?", "const": "true"} if argument.annotation == "bool" else {}
        recipe.add_argument(_flag(argument.name), dest=argument.name, metavar="VALUE", help=_words(argument), **switch)
    parser.dotted, parser.elsewhere = roots(), _ELSEWHERE
    parser.epilog = _EPILOG


def roots() -> tuple[str, ...]:
    """What may stand before the first dot: the parts that a recipe, a model and any criterion are made of."""
    owners = [("recipes", "recipe"), ("models", "detector"), *(("criteria", name) for name in names("criteria"))]
    found = [a.name for kind, name in owners for a in _arguments(kind, name) if "Part" in a.annotation]
    return tuple(dict.fromkeys([*found, *(old for old in DENSE if old.endswith("loss"))]))


def _arguments(kind: str, name: str) -> tuple[Argument, ...]:
    """Of a part; none of one that an installed package declares without a source to read."""
    try:
        return read_signature(kind, name).arguments
    except PartError:
        return ()


def check_names(args: argparse.Namespace) -> None:
    """Refuse unknown models and parts before anything heavy is imported. (timm's names are asked of timm later.)"""
    model: str = args.model
    if _is_file(model):
        if not Path(model).is_file():
            raise UsageError(f"no file at {model}; `torso show MODEL --yaml` prints a recipe to save")
    elif not _allow.check_name("MODEL", model) and not is_name("zoo", model):
        raise UsageError(f"no model is called {model!r}; {nearest(model, names('zoo'))}")
    if args.pretrained not in (None, "hub", "none") and not Path(args.pretrained).is_file():
        raise UsageError(f"--pretrained {args.pretrained}: no such file; 'hub' or a weight file was wanted")
    views.read_tiles(args.tiles)
    views.read_overlap(args.overlap)
    own = {name: getattr(args, name) for name in _recipe_arguments() if getattr(args, name) is not None}
    chosen_parts = {slot: getattr(args, slot) for slot in SLOTS if slot != "neck" and getattr(args, slot) is not None}
    _bounds.check_texts({**own, **args.dotted}, chosen_parts, flags=_FLAGS)
    for slot, kind in SLOTS.items():
        chosen: str | None = getattr(args, slot)
        if chosen is None or _allow_backbone(slot, chosen):
            continue
        known = [*names(kind), *(names("blocks") if slot == "neck" else ())]
        if slot == "sampler":
            known.append("none")
        for name in _chain(chosen) if slot == "neck" else [chosen]:
            plain = name.replace("-", "_")
            if not _allow.check_name(_flag(slot), name) and plain not in known and not is_name(kind, plain):
                raise UsageError(f"{_flag(slot)}: no {singular(kind)} is called {name!r}; {nearest(name, known)}")
    for path, name in args.dotted.items():
        is_block = path.rpartition(".")[2] == "block" and not _allow.check_name(f"--{path}", name)
        if is_block and name.replace("-", "_") not in ("none", *names("blocks")):
            raise UsageError(f"--{path}: no block is called {name!r}; {nearest(name, names('blocks'))}")


def _allow_backbone(slot: str, chosen: str) -> bool:
    """Whether it is a backbone's name, of which only the permission can be asked here: timm's names are timm's."""
    if slot != "backbone":
        return False
    _allow.check_name("--backbone", chosen)
    return True


def _chain(text: str) -> tuple[str, ...]:
    try:
        return chained(text)
    except PartError as error:
        raise UsageError(f"--neck: {error}") from None


def compose(args: argparse.Namespace, num_classes: int | None = None) -> Part[Recipe]:
    """The recipe that the flags describe, checked: it can be built and its criterion can train its model.

    UsageError where it cannot.
    """
    from torso.training.compose_recipe import check, compose_recipe, recipe_of_head

    changed = {name: getattr(args, name) for name in _recipe_arguments() if getattr(args, name) is not None}
    try:
        recipe = compose_recipe(
            Path(args.model) if _is_file(args.model) else args.model,
            num_classes=num_classes,
            **{slot: getattr(args, slot) for slot in SLOTS},
            overrides={**changed, **args.dotted},
        )
        if recipe.get("model").accepts("input"):
            recipe = recipe.override("model.input", views.tiled(recipe.get("model").get("input"), args))
        criterion = recipe.get("criterion")
        tiled = args.tiles not in (None, "none") or (args.tiles is None and args.input == "tiles")
        if tiled and criterion.accepts("crowd") and "crowd" not in dict(criterion.args):
            recipe = recipe.override("criterion.crowd", "ignored")  # what a tile's edge has cut off
        check(recipe)
    except ValueError as error:
        raise UsageError(sentence(error)) from error
    if args.head is not None and (paper := recipe_of_head(recipe.get("model").get("head"))) is not None:
        print(f"--head {args.head} brings its own criterion, by which {paper} is trained", file=sys.stderr)
    return recipe


def given(args: argparse.Namespace) -> list[str]:
    """The flags of the recipe that came, as they are typed."""
    plain = [name for name in (*SLOTS, "tiles", "overlap", *_recipe_arguments()) if getattr(args, name) is not None]
    return [*map(_flag, plain), *(f"--{path}" for path in args.dotted)]


def _recipe_arguments() -> list[str]:
    return [a.name for a in read_signature("recipes", "recipe").arguments if a.name not in ("model", "criterion")]


def _is_file(model: str) -> bool:
    return model.endswith((".yaml", ".yml"))


def _flag(name: str) -> str:
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


def _words(argument: Argument) -> str:
    """An annotation for a reader. No default: each model's recipe has its own, which `torso show` prints."""
    if argument.name in _FLAGS:
        return f"the recipe's {argument.name}, each batch at one of them: 0.75,1,1.25"
    text = re.sub(r"Literal\[(.*)\]", lambda m: m[1].replace("'", ""), shown(argument.annotation))
    text = re.sub(r"tuple\[float ?(.*), \.\.\.\]", r"numbers \1 (0.7,0.9)", text)
    meanings = {
        "tuple[Part[Transform], ...]": "a transform, or none",
        " | None": " or none",
        "int": "whole number",
        "float": "number",
        "bool": "true or false",
        "str": "text",
    }
    for found, meant in meanings.items():
        text = text.replace(found, meant)
    return text


def _choices(slot: str, kind: str) -> str:
    wanted = {"cls_loss": {"ClassLoss", "HeatmapLoss"}, "box_loss": {"BoxLoss"}}.get(slot)
    listed = ", ".join(n for n in names(kind) if wanted is None or wanted & set(ancestors(kind, n)))
    if slot == "backbone":
        return f"{listed}, or any timm model with features (resnet50, swin_tiny_patch4_window7_224, ...)"
    if slot == "neck":
        blocks = ", ".join(names("blocks"))
        return f"{listed}, several as fpn+pan, or none; a block at the levels it belongs to, as spp+pan: {blocks}"
    return f"{listed}, or none" if slot == "sampler" else listed
