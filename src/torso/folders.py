"""The registry of parts is the folders: which names there are, what file each stands in, and what it is in a line.

A part file holds one public class and gives it the file's name, or it holds a family of functions (`swin_t`, `swin_s`
...), each a name of its own. Everything here but `find` is read from the sources by ast: nothing is imported for it.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torso.errors import PartError

KINDS: Mapping[str, str] = types.MappingProxyType(
    {
        "zoo": "torso.zoo",
        "models": "torso.models",
        "backbones": "torso.backbones",
        "blocks": "torso.blocks",
        "necks": "torso.necks",
        "heads": "torso.heads",
        "priors": "torso.geometry.priors",
        "coders": "torso.geometry.coders",
        "inputs": "torso.inputs",
        "suppression": "torso.suppression",
        "assigners": "torso.training.assigners",
        "samplers": "torso.training.samplers",
        "losses": "torso.training.losses",
        "terms": "torso.training.terms",
        "criteria": "torso.training.criteria",
        "recipes": "torso.training.recipes",
        "transforms": "torso.data.transforms",
    }
)


def names(kind: str) -> list[str]:
    """Short names of a kind's parts, read without importing anything."""
    return sorted(index(kind))


def describe(kind: str) -> dict[str, str]:
    """The one line of every part of a kind: the first of its file's docstring, or of its function's in a family."""
    return {name: index(kind)[name].line for name in names(kind)}


class Entry(typing.NamedTuple):
    """Where a name of the folders is defined: the file's stem, the class or function, and its one line."""

    module: str
    symbol: str
    line: str


@functools.cache
def index(kind: str) -> Mapping[str, Entry]:
    """{short name: where it is}. PartError for a file that holds neither one public class nor functions."""
    found: dict[str, Entry] = {}
    for file in sorted(_folder(kind).glob("[!_]*.py")):
        found.update(_entries(file.stem, ast.parse(file.read_text(encoding="utf-8"))))
    return types.MappingProxyType(found)


def _entries(stem: str, tree: ast.Module) -> dict[str, Entry]:
    line = _first_line(tree)
    public = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and not n.name.startswith("_")]
    functions = [n for n in public if isinstance(n, ast.FunctionDef)]
    classes = [n for n in public if isinstance(n, ast.ClassDef)]
    if [n.name for n in public] == [stem]:
        return {stem: Entry(stem, stem, line)}
    if len(classes) == 1:
        return {stem: Entry(stem, classes[0].name, line)}
    if classes or not functions:
        raise PartError(f"{stem}.py wants one public class, or functions only; it has {[n.name for n in public]}")
    return {f.name: Entry(stem, f.name, _first_line(f) or line) for f in functions}


def _first_line(node: ast.Module | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").split("\n")[0]


def find(name: str, kind: str | None = None, *, allow: Sequence[str] = ()) -> Callable[..., Any]:
    """The class or zoo function of a name: "fpn" (with its kind), "necks.fpn", or "module:Class" from `allow`.

    Raises PartError for anything else, naming the nearest.
    """
    if ":" in name:
        return _find_foreign(name, allow)
    if "." in name:
        kind, _, name = name.partition(".")
    if kind is None:
        owners = [k for k in KINDS if name in names(k)]
        if len(owners) != 1:
            known = [f"{k}.{n}" for k in KINDS for n in names(k)]
            hint = f"it is a name of {owners}: say which" if owners else nearest(name, known)
            raise PartError(f"no single part is called {name!r}; {hint}")
        kind = owners[0]
    if name not in names(kind):
        raise PartError(f"no {singular(kind)} is called {name!r}; {nearest(name, names(kind))}")
    entry = index(kind)[name]
    target: Callable[..., Any] = getattr(importlib.import_module(f"{KINDS[kind]}.{entry.module}"), entry.symbol)
    return target


def nearest(name: str, known: Iterable[str]) -> str:
    """A half sentence that helps with a mistyped name."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"there are {', '.join(known)}" if len(known) <= 30 else f"there are {len(known)}, see `torso parts`"


def chained(text: str) -> tuple[str, ...]:
    """The names of "spp+pan"; () for "none", which stands alone. PartError for an empty name between the signs."""
    if text.strip().lower() == "none":
        return ()
    chosen = [name.strip() for name in text.split("+")]
    kept = [name for name in chosen if name and name.lower() != "none"]
    if kept == chosen:
        return tuple(chosen)
    wrong = "'none' stands alone: no neck at all" if "" not in chosen else "a name is empty; + stands between two names"
    raise PartError(f"{text!r} came, but {wrong}; say {'+'.join(kept) or 'none'!r}, or several as 'fpn+pan'")


def no_argument(head: str, value: Any, rest: str) -> str:
    """Why a dotted path that goes on with `rest` ends at the argument `head` of this value, and what to write."""
    parts = enumerate(value) if isinstance(value, tuple) else ()
    ways = [f"{head}.{i}.{rest}" for i, p in parts if hasattr(p, "accepts") and p.accepts(rest.partition(".")[0])]
    if ways:
        return f"{head} holds several parts; say whose {rest} it is: {' or '.join(ways)}"
    remedy = f"give a {head} too, or leave {rest} out" if value is None or value == () else f"set {head} itself"
    return f"{head} is {value!r}, which has no argument {rest!r}; {remedy}"


def singular(kind: str) -> str:
    """The word for one member of a kind: "necks" -> "neck"."""
    return {"losses": "loss", "criteria": "criterion", "zoo": "model", "priors": "prior"}.get(kind, kind.rstrip("s"))


def qualified_name(target: Callable[..., Any]) -> str:
    """kind.name for members of the folders, module:name otherwise."""
    module = target.__module__
    for kind, package in KINDS.items():
        if module.startswith(package + ".") and "." not in module[len(package) + 1 :]:
            return f"{kind}.{target.__name__ if inspect.isfunction(target) else module[len(package) + 1 :]}"
    return f"{module}:{target.__name__}"


def _folder(kind: str) -> Path:
    if kind not in KINDS:
        raise PartError(f"no kind of part is called {kind!r}; {nearest(kind, KINDS)}")
    return Path(__file__).parent.joinpath(*KINDS[kind].split(".")[1:])


def _find_foreign(name: str, allow: Sequence[str]) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    if not any(module == a or module.startswith(a + ".") for a in allow):
        raise PartError(
            f"{name!r} lies outside torso and its module was not allowed; if you trust it, pass allow=({module!r},)"
        )
    target = getattr(importlib.import_module(module), attribute, None)
    if not callable(target) or getattr(target, "__module__", None) != module:
        raise PartError(f"{module} defines no class called {attribute!r}")
    return typing.cast(Callable[..., Any], target)
