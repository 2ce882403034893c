"""`torso parts`: the parts of every kind with their one line, and the arguments of one; nothing heavy is imported."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict

from torso.cli._bounds import shown
from torso.cli._flags import Parser, UsageError
from torso.cli._signature import Signature, read_foreign, read_signature
from torso.folders import hidden, installed
from torso.foreign import is_foreign
from torso.parts import KINDS, describe, is_name, names, nearest, refusals, singular

_ABOUT = {
    "zoo": "models with their paper's defaults: torso train NAME; a multiply-add is 2 FLOP of torso show",
    "models": "what chains the parts",
    "backbones": "--backbone (or any timm name: --backbone resnet50)",
    "blocks": "--neck spp+pan, --neck fpn+cbam, --backbone.block=cbam",
    "necks": "--neck",
    "heads": "--head",
    "priors": "--head.priors",
    "coders": "--head.coder",
    "inputs": "--input",
    "suppression": "--suppression",
    "assigners": "--assigner",
    "samplers": "--sampler",
    "losses": "--cls-loss, --box-loss",
    "terms": "what a criterion sums: --criterion.box.weight=2, --criterion.cls.loss.alpha=0.5",
    "criteria": "--criterion",
    "recipes": "how each model is trained; the arguments of `recipes.recipe` are flags",
    "transforms": "augmentations of training images",
    "tasks": "what a model is for; its class names the task",
}


# what `none` means where it is no part of its own, as it is of suppression
_NOTHING = {
    "blocks": "No block (--backbone.block=none).",
    "necks": "No neck, the baseline: the head reads the backbone's own levels (--neck none, alone).",
    "samplers": "No sampler: every prior counts (--sampler none; a second stage cannot do without).",
}


def add_arguments(parser: Parser) -> None:
    """Of `torso parts`."""
    parser.add_argument(
        "what",
        nargs="?",
        metavar="KIND|PART",
        help=f"a kind ({', '.join(KINDS)}), a part (necks.fpn), or one of your own (mypkg.parts:Squeeze)",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the list, one kind, or one part."""
    what: str | None = args.what
    if what is None:
        _print_kinds(list(KINDS), args.json)
        return 0
    by_singular = {singular(kind): kind for kind in KINDS}
    if what in KINDS or what in by_singular:
        _print_kinds([by_singular.get(what, what)], args.json)
        return 0
    signature = _read_foreign(what) if is_foreign(what) else _find(what)
    print(json.dumps(asdict(signature), indent=1) if args.json else _page(signature))
    return 0


def _print_kinds(kinds: list[str], as_json: bool) -> None:
    for refusal in dict.fromkeys(text for kind in kinds for text in refusals(kind).values()):
        print(f"left out: {refusal}", file=sys.stderr)
    if as_json:
        print(json.dumps({kind: _lines(kind) for kind in kinds}, indent=1, ensure_ascii=False))
        return
    width = max(len(name) for kind in kinds for name in names(kind))
    for i, kind in enumerate(kinds):
        print(f"{'' if i == 0 else chr(10)}{kind}  ({_ABOUT[kind]})")
        for name, line in _lines(kind).items():
            print(f"  {name:<{width}}  {line}")
        for line in hidden(kind):
            print(f"  {line}")


def _lines(kind: str) -> dict[str, str]:
    """The line of every name that may be given for a part of this kind: "none" too, first, where it is one."""
    nothing = {"none": _NOTHING[kind]} if kind in _NOTHING else {}
    lines = describe(kind)
    return {**nothing, **lines, **{n: f"{lines[n]} ({one.package})".lstrip() for n, one in installed(kind).items()}}


def _find(what: str) -> Signature:
    kind, dot, name = what.partition(".")
    if dot:
        kind = next((k for k in KINDS if kind in (k, singular(k))), kind)
        if kind not in KINDS:
            raise UsageError(f"no kind of part is called {kind!r}; {nearest(kind, KINDS)}")
        return _read(kind, name)
    owners = [k for k in KINDS if what in _lines(k) or is_name(k, what)]
    if len(owners) == 1:
        return _read(owners[0], what)
    if owners:
        raise UsageError(f"{what!r} is a name of several kinds; say which: {', '.join(f'{k}.{what}' for k in owners)}")
    known = [*KINDS, *dict.fromkeys(n for k in KINDS for n in names(k))]
    raise UsageError(f"no kind and no part is called {what!r}; {nearest(what, known)}")


def _read(kind: str, name: str) -> Signature:
    if name == "none" and kind in _NOTHING:
        return Signature(f"{kind}.none", "None", _NOTHING[kind], "", ())
    return read_signature(kind, name)


def _read_foreign(name: str) -> Signature:
    """The part "module:Class", from the current directory too: its source is read and nothing of it runs."""
    path = list(sys.path)
    sys.path.append(os.getcwd())
    try:
        return read_foreign(name)
    finally:
        sys.path[:] = path


def _page(signature: Signature) -> str:
    lines = [f"{signature.name}  ({signature.symbol})", signature.line, ""]
    if signature.doc:
        lines += [*signature.doc.splitlines(), ""]
    if not signature.arguments:
        return "\n".join([*lines, "It takes no arguments."])
    width = max(len(a.name) for a in signature.arguments)
    lines.append("arguments")
    for a in signature.arguments:
        default = "must be given" if a.default is None else f"= {a.default}"
        lines.append(f"  {a.name:<{width}}  {shown(a.annotation)}  {default}")
    return "\n".join(lines)
