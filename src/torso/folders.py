"""The registry of parts is the folders: which names there are, what file each stands in, and what it is in a line.

A name belongs to a class or a function. One public class in a file is called as the file; several are called as they
call themselves (GIoULoss: giou). A file of functions alone is a family, each a name of its own (`swin_t`, `swin_s`). A
paper's file in zoo/ has both: its classes are heads, its functions models. Everything here but `find` is read from the
sources by ast: nothing is imported for it.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torso import foreign
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
        "tasks": "torso.tasks",
    }
)


# A paper's file holds its heads and its models: the classes of the zoo are names of another kind than its functions.
_CLASSES_OF = {"zoo": "heads"}
# What such a file says of another library's weights is no name: LIBRARY_model(), LIBRARY_to_torso(state).
_FOREIGN = ("_model", "_to_torso")

OLD_NAMES: dict[str, str] = {}
"""{"kind.old": "kind.new"}: names that were called otherwise once, for old files and commands. `find` reads it."""


def names(kind: str) -> list[str]:
    """Short names of a kind's parts, those of installed packages too, read without importing anything."""
    return sorted({*index(kind), *installed(kind)})


def is_name(kind: str, name: str) -> bool:
    """Whether a part is, once was, or would be called so, were its file in order (`entry` says what is wrong)."""
    known = name in index(kind) or name in installed(kind)
    return known or name in refusals(kind) or f"{kind}.{name}" in OLD_NAMES


def describe(kind: str) -> dict[str, str]:
    """The one line of every part of a kind: of its file's docstring, or its own where the file defines several."""
    own, others = index(kind), installed(kind)
    return {name: own[name].line if name in own else foreign.first_line(others[name].where) for name in names(kind)}


@functools.cache
def installed(kind: str) -> Mapping[str, foreign.Declared]:
    """{short name: what an installed package declares by it}. Torso's own names stay its own; see `hidden`."""
    found: dict[str, foreign.Declared] = {}
    for one in foreign.declared():
        if one.kind == kind and one.name.isidentifier() and one.name not in index(kind):
            found.setdefault(one.name, one)
    return types.MappingProxyType(found)


def hidden(kind: str) -> list[str]:
    """A sentence for each declared name that stands for something else already: a part of torso, or of a package."""
    own, others = index(kind), installed(kind)
    lines = []
    for one in foreign.declared():
        if one.kind == kind and others.get(one.name) != one:
            owner = "torso's own" if one.name in own else f"that of {others[one.name].package}"
            lines.append(f"{one.name} of {one.package} is hidden by {owner}; name it {one.where}")
    return lines


class Entry(typing.NamedTuple):
    """Where a name of the folders is defined: the full module, the class or function, and its one line."""

    module: str
    symbol: str
    line: str


def index(kind: str) -> Mapping[str, Entry]:
    """{short name: where it is}, of the files that can be read; `refusals` has the others."""
    return _read(kind)[0]


def refusals(kind: str) -> Mapping[str, str]:
    """{name or file's stem: why it is no name of this kind}: a misfiled file, or one name for two things."""
    return _read(kind)[1]


def entry(kind: str, name: str) -> Entry:
    """Where a name, present or old, is defined. PartError, naming the nearest, for one that is none or is refused."""
    kind, _, name = OLD_NAMES.get(f"{kind}.{name}", f"{kind}.{name}").partition(".")
    if name in index(kind):
        return index(kind)[name]
    if name in refusals(kind):
        raise PartError(refusals(kind)[name])
    raise PartError(f"no {singular(kind)} is called {name!r}; {nearest(name, names(kind))}")


@functools.cache
def source(module: str) -> ast.Module:
    """A file of torso, parsed once; nobody changes what this gives. SyntaxError where it is not Python."""
    return ast.parse(_path(module).with_suffix(".py").read_bytes())


@functools.cache
def _read(kind: str) -> tuple[Mapping[str, Entry], Mapping[str, str]]:
    claims: dict[str, list[Entry]] = {}
    refused: dict[str, str] = {}
    for package in _packages(kind):
        for file in sorted(_path(package).glob("[!_]*.py")):
            try:
                for name, found in _entries(kind, f"{package}.{file.stem}"):
                    claims.setdefault(name, []).append(found)
            except PartError as error:
                refused[file.stem] = str(error)
    refused |= {name: _claimed_twice(kind, name, found) for name, found in claims.items() if len(found) > 1}
    entries = {name: found[0] for name, found in claims.items() if len(found) == 1}
    return types.MappingProxyType(entries), types.MappingProxyType(refused)


def _entries(kind: str, module: str) -> list[tuple[str, Entry]]:
    """The names that a file gives to a kind. PartError for a file of which nobody could tell what it is for."""
    try:
        tree = source(module)
    except SyntaxError as error:
        raise PartError(f"{_shown(module)}, line {error.lineno}, is not Python: {error.msg}") from None
    public = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and not n.name.startswith("_")]
    if not public:
        raise PartError(
            f"{_shown(module)} has no public class and no public function, so it is no part: give it one, or a file "
            "name that begins with an underscore"
        )
    classes = [n for n in public if isinstance(n, ast.ClassDef)]
    functions = [n for n in public if isinstance(n, ast.FunctionDef) and not n.name.endswith(_FOREIGN)]
    if kind in _CLASSES_OF:
        classes = []
    elif not module.startswith(KINDS[kind] + "."):
        functions = []
    if classes:
        return _of_classes(kind, module, classes, _first_line(tree))
    return _of_functions(module, functions, _first_line(tree))


def _of_classes(kind: str, module: str, classes: list[ast.ClassDef], line: str) -> list[tuple[str, Entry]]:
    """One class has its file's name, several have their own."""
    stem = module.rpartition(".")[2]
    if len(classes) == 1:
        at_home = module.startswith(KINDS[kind] + ".")  # a paper's first line is its model's
        return [(stem, Entry(module, classes[0].name, line if at_home else _first_line(classes[0]) or line))]
    return [(_own_name(c.name, kind, stem), Entry(module, c.name, _first_line(c) or line)) for c in classes]


def _own_name(symbol: str, kind: str, stem: str) -> str:
    """GIoULoss -> giou; the file's own stem where that is the same, so that a second class beside one renames none."""
    own = symbol.removesuffix(singular(kind).capitalize()).lower()
    return stem if own == stem.replace("_", "") else own


def _of_functions(module: str, functions: list[ast.FunctionDef], line: str) -> list[tuple[str, Entry]]:
    """A function that is called as its file and is alone in it has the file's line."""
    if [f.name for f in functions] == [module.rpartition(".")[2]]:
        return [(f.name, Entry(module, f.name, line)) for f in functions]
    return [(f.name, Entry(module, f.name, _first_line(f) or line)) for f in functions]


def _claimed_twice(kind: str, name: str, entries: Sequence[Entry]) -> str:
    files = " and ".join(f"{e.symbol} in {_shown(e.module)}" for e in entries)
    return f"{kind}.{name} is the name of {files}: rename all but one"


def _first_line(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> str:
    return (ast.get_docstring(node) or "").split("\n")[0]


def _packages(kind: str) -> list[str]:
    """Where a kind's parts stand: its own package, and the papers' where their classes are of this kind."""
    if kind not in KINDS:
        raise PartError(f"no kind of part is called {kind!r}; {nearest(kind, KINDS)}")
    return [KINDS[kind], *(KINDS[papers] for papers, of in _CLASSES_OF.items() if of == kind)]


def _path(module: str) -> Path:
    return Path(__file__).parent.joinpath(*module.split(".")[1:])


def _shown(module: str) -> str:
    """heads/two.py"""
    return "/".join(module.split(".")[1:]) + ".py"


def find(name: str, kind: str | None = None, *, allow: Sequence[str] = ()) -> Callable[..., Any]:
    """The class or zoo function of a name: "fpn" (with its kind), "necks.fpn", or "module:Class" that is permitted.

    allow: modules outside torso that may be named; see `torso.foreign` for what else permits.

    Raises PartError for anything else, naming the nearest.
    """
    if foreign.is_foreign(name):
        return foreign.find(name, allow)
    if "." in name:
        kind, _, name = name.partition(".")
    kind = kind or _only_kind(name)
    if name in installed(kind):
        return foreign.find(installed(kind)[name].where)
    found = entry(kind, name)
    target: Callable[..., Any] = getattr(importlib.import_module(found.module), found.symbol)
    return target


def _only_kind(name: str) -> str:
    owners = [k for k in KINDS if is_name(k, name)]
    if len(owners) != 1:
        known = [f"{k}.{n}" for k in KINDS for n in names(k)]
        hint = f"it is a name of {owners}: say which" if owners else nearest(name, known)
        raise PartError(f"no single part is called {name!r}; {hint}")
    return owners[0]


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
    module, symbol = target.__module__, target.__name__
    for kind in KINDS:
        if module.rpartition(".")[0] in _packages(kind) and (module, symbol) in _names_by_symbol(kind):
            return f"{kind}.{_names_by_symbol(kind)[module, symbol]}"
    return f"{module}:{symbol}"


@functools.cache
def _names_by_symbol(kind: str) -> Mapping[tuple[str, str], str]:
    return types.MappingProxyType({(e.module, e.symbol): name for name, e in index(kind).items()})
