"""Parts from outside torso: which modules may be imported for them, and the names that installed packages declare.

A foreign part is named "module:Class". Its module is imported only with permission: the argument `allow` of a call, the
environment variable TORSO_ALLOW (set by the flag `allow`, too), or an entry point of the group `torso.parts`,
by which an installed package declares its own: `necks.squeeze = "mypkg.parts:Squeeze"`.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from torso.errors import PartError, mismatch

GROUP = "torso.parts"
ENVIRONMENT = "TORSO_ALLOW"
Allow = Sequence[str]
"""Modules that may be imported, their submodules included: ("mypkg",), or the text "mypkg,other"."""

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
# Names stand at any depth (an override's text, a part of a part): a call's permission holds for all that it looks up.
_allowed: ContextVar[tuple[str, ...]] = ContextVar("allowed", default=())

P = ParamSpec("P")
T = TypeVar("T")


def is_foreign(name: str) -> bool:
    """Whether a name is meant to be "module:Class" rather than a name of torso's own."""
    return ":" in name


def honours_allow(function: Callable[P, T]) -> Callable[P, T]:
    """The function, with its keyword argument `allow` in force for every name that is looked up inside the call."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with allowing(cast(Allow, kwargs.get("allow", ()))):
            return function(*args, **kwargs)

    return call


@contextmanager
def allowing(allow: Allow) -> Iterator[None]:
    """Inside, names of these modules may be looked up as well."""
    token = _allowed.set((*_allowed.get(), *modules(allow)))
    try:
        yield
    finally:
        _allowed.reset(token)


def modules(allow: Allow) -> tuple[str, ...]:
    """The modules of an `allow`; PartError for anything that is not names of modules."""
    given = allow.split(",") if isinstance(allow, str) else allow
    if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(m, str) for m in given):
        raise mismatch("allow", "names of modules, as ('mypkg',)", allow)
    names = [m.strip() for m in given if m.strip()]
    wrong = [m for m in names if not _MODULE.fullmatch(m)]
    if wrong:
        raise mismatch("allow", "names of modules, as ('mypkg',)", wrong[0])
    return tuple(names)


def check(name: str, allow: Allow = ()) -> tuple[str, str]:
    """(module, class) of a foreign name; PartError unless it is well formed and permitted. Nothing is imported."""
    if not _NAME.fullmatch(name):
        raise PartError(f"expected a name such as 'mypkg.parts:Squeeze' (module:Class), got {name!r}")
    module, _, attribute = name.partition(":")
    trusted = (*modules(allow), *_allowed.get(), *modules(os.environ.get(ENVIRONMENT, "")))
    known = any(module == m or module.startswith(m + ".") for m in trusted)
    if not known and name not in {d.where for d in declared()}:
        package = module.partition(".")[0]
        raise PartError(
            f"{name!r} lies outside torso and its module was not allowed; if you trust {package}",
            remedies=[{"allow": (package,)}],
        )
    return module, attribute


def find(name: str, allow: Allow = ()) -> Callable[..., Any]:
    """The class or function "module:Class", which that module itself defines; PartError where it cannot be had."""
    module, attribute = check(name, allow)
    home = _imported(module, name)
    target = getattr(home, attribute, None)
    if not (inspect.isclass(target) or inspect.isfunction(target)):
        raise PartError(f"{module} defines no class called {attribute!r}; {_defined(home)}")
    if target.__module__ != module:
        raise PartError(
            f"{module} defines no class called {attribute!r}, it imports it; name its home: "
            f"'{target.__module__}:{target.__name__}'"
        )
    return cast(Callable[..., Any], target)


def _imported(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module + ".").startswith(error.name + "."):
            raise PartError(
                f"{name!r} names the module {error.name}, which is not there; install its package, or correct the name"
            ) from None
        raise PartError(f"{module}, which {name!r} names, cannot be imported: {error}") from error
    except Exception as error:  # whatever the code of a stranger raises
        reason = (str(error).strip().splitlines() or [""])[0]
        raise PartError(
            f"{module}, which {name!r} names, cannot be imported: {type(error).__name__}: {reason}"
        ) from error


def _defined(home: Any) -> str:
    own = [n for n, v in vars(home).items() if inspect.isclass(v) and v.__module__ == home.__name__ and n[0] != "_"]
    return f"it defines {', '.join(own)}" if own else "it defines none"


class Declared(NamedTuple):
    """A name that an installed package declares: "squeeze" of the kind "necks", where it is, and whose it is."""

    kind: str
    name: str
    where: str
    package: str


@functools.cache
def declared() -> tuple[Declared, ...]:
    """What the installed packages declare, in order of kind, name and package; read from their metadata alone."""
    from importlib.metadata import entry_points

    found = set()
    for point in entry_points(group=GROUP):
        kind, _, name = point.name.partition(".")
        where = point.value.partition("[")[0].replace(" ", "")
        found.add(Declared(kind, name, where, point.dist.name if point.dist else "an unknown package"))
    return tuple(sorted(found))


def first_line(name: str) -> str:
    """The first line of a foreign part's docstring, else of its module's; empty where its source is not found."""
    try:
        tree, node = definition(name)
    except PartError:
        return ""
    return (ast.get_docstring(node) or ast.get_docstring(tree) or "").split("\n")[0]


def definition(name: str) -> tuple[ast.Module, ast.ClassDef | ast.FunctionDef]:
    """The source of "module:Class", and the statement in it that defines the class. Nothing is imported for it.

    PartError where there is no such source, or no such class in it.
    """
    module, _, attribute = name.partition(":")
    file = source(module)
    if file is None:
        raise PartError(f"{name!r} names the module {module}, whose source is not there; install its package")
    tree = parsed(file)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            return tree, node
    raise PartError(f"{module} defines no class called {attribute!r}")


@functools.cache
def parsed(file: Path) -> ast.Module:
    """The tree of a source file, read once; PartError for one that is no Python."""
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise PartError(f"{file} cannot be read as Python: {error}") from None


@functools.cache
def source(module: str) -> Path | None:
    """The Python file of a module, found where importing would look for it but without importing its package."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)  # of a name without a dot: nothing is imported
        for step in rest:
            top = f"{top}.{step}"
            folders = spec.submodule_search_locations if spec is not None else None
            spec = PathFinder.find_spec(top, list(folders)) if folders is not None else None
    except (
        ImportError,
        ValueError,
        KeyError,
    ):  # KeyError: a namespace in a namespace
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None
