"""Arguments of a part read from its source by ast, so that help and checks of flags cost no import of torch."""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, replace

from torso import foreign
from torso.errors import PartError
from torso.folders import entry, installed, source


@dataclass(frozen=True)
class Argument:
    """One keyword-only argument, as written: its annotation and its default (None where it must be given)."""

    name: str
    annotation: str
    default: str | None


@dataclass(frozen=True)
class Signature:
    """A part as its file says it: kind.file, class or function, first line, docstring, arguments."""

    name: str
    symbol: str
    line: str
    doc: str
    arguments: tuple[Argument, ...]


def read_signature(kind: str, name: str) -> Signature:
    """The signature of one part; PartError for a name that is none, with the nearest."""
    if name in installed(kind):
        one = installed(kind)[name]
        return replace(read_foreign(one.where), name=f"{kind}.{name}", symbol=f"{one.where} of {one.package}")
    return _signature(f"{kind}.{name}", entry(kind, name).line, *_definition(kind, name))


def read_foreign(where: str) -> Signature:
    """The signature of "module:Class", from its source; PartError where that is not found."""
    tree, node = foreign.definition(where)
    return _signature(where, foreign.first_line(where), tree, node)


def _signature(name: str, line: str, tree: ast.Module, node: ast.FunctionDef | ast.ClassDef) -> Signature:
    arguments = _of_function(node, tree) if isinstance(node, ast.FunctionDef) else _of_class(node, tree)
    return Signature(name, node.name, line, _doc(node, tree), tuple(arguments))


def read_callable(module: str, symbol: str) -> tuple[Argument, ...]:
    """Arguments of a function or class of torso that is no part, or fields of a dataclass; without their defaults."""
    tree = source(module)
    node = next(n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == symbol)
    inner = node.body if isinstance(node, ast.ClassDef) else [node]
    found = []
    for item in inner:
        if isinstance(item, ast.AnnAssign):
            found.append((ast.unparse(item.target), item.annotation))
        elif isinstance(item, ast.FunctionDef) and item.name in ("__init__", symbol):
            found += [(a.arg, a.annotation) for a in (*item.args.args, *item.args.kwonlyargs) if a.annotation]
    return tuple(Argument(name, _written(annotation, tree), None) for name, annotation in found)


def _definition(kind: str, name: str) -> tuple[ast.Module, ast.FunctionDef | ast.ClassDef]:
    if name in installed(kind):
        return foreign.definition(installed(kind)[name].where)
    found = entry(kind, name)
    tree = source(found.module)
    return tree, next(n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == found.symbol)


def _of_function(node: ast.FunctionDef, tree: ast.Module) -> list[Argument]:
    """Its own arguments; a preset has those of the part that it returns, with the values that it sets."""
    if node.args.kwonlyargs or (made := _made(node, tree)) is None:
        return _keyword_only(node, tree)
    call, owner = made
    given = {k.arg: ast.unparse(k.value) for k in call.keywords}
    return [Argument(a.name, a.annotation, given.get(a.name, a.default)) for a in _of_class(*owner)]


def _keyword_only(node: ast.FunctionDef, tree: ast.Module) -> list[Argument]:
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return [Argument(a.arg, _written(a.annotation, tree), None if d is None else ast.unparse(d)) for a, d in pairs]


def _written(annotation: ast.expr | None, tree: ast.Module) -> str:
    """An annotation with what its aliases stand for: a reader of `torso parts` cannot look up `Norm`."""
    if annotation is None:
        return ""
    return ast.unparse(_Aliases(tree).visit(copy.deepcopy(annotation)))


class _Aliases(ast.NodeTransformer):
    """Puts the value of `Name = Literal[...]` in the place of Name."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree

    def visit_Name(self, node: ast.Name) -> ast.expr:
        found = _alias(node.id, self.tree)
        if found is None:
            return node
        value, home = found
        replaced: ast.expr = _Aliases(home).visit(copy.deepcopy(value))
        return replaced


def _alias(name: str, tree: ast.Module) -> tuple[ast.expr, ast.Module] | None:
    """What a type alias of torso stands for, and the file that says so."""
    for item in tree.body:
        if not isinstance(item, ast.Assign) or not isinstance(item.value, ast.Subscript | ast.BinOp):
            continue
        if [t.id for t in item.targets if isinstance(t, ast.Name)] == [name]:
            return item.value, tree
    home = _imported(name, tree)
    return None if home is None else _alias(*home)


def _imported(name: str, tree: ast.Module) -> tuple[str, ast.Module] | None:
    """The own name, and the file, of what a file imports as `name` by a module's full name."""
    for item in tree.body:
        if isinstance(item, ast.ImportFrom) and item.module and not item.level:
            original = {a.asname or a.name: a.name for a in item.names}.get(name)
            tree_of = None if original is None else _tree(item.module)
            if original is not None and tree_of is not None:
                return original, tree_of
    return None


def _tree(module: str) -> ast.Module | None:
    """A module of torso, or of a package that declares parts, parsed; of other libraries nothing is read."""
    package = module.partition(".")[0]
    if package == "torso":
        return source(module) if module != package else None
    declaring = {one.where.partition(":")[0].partition(".")[0] for one in foreign.declared()}
    file = foreign.source(module) if package in declaring else None
    return None if file is None else foreign.parsed(file)


def _made(node: ast.FunctionDef, tree: ast.Module) -> tuple[ast.Call, tuple[ast.ClassDef, ast.Module]] | None:
    """The call `part(Class, ...)` that a preset returns, and that class."""
    for item in ast.walk(node):
        if not isinstance(item, ast.Return) or not isinstance(item.value, ast.Call):
            continue
        call = item.value
        if isinstance(call.func, ast.Name) and call.func.id == "part" and call.args:
            owner = _class_of(call.args[0], tree)
            return None if owner is None else (call, owner)
    return None


def _of_class(node: ast.ClassDef, tree: ast.Module) -> list[Argument]:
    """Of its own __init__, else of its base's, with the defaults that the class statement sets (`class A(B, x=1)`)."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _keyword_only(item, tree)
    base = _base(node, tree)
    if base is None:
        return []
    presets = {k.arg: ast.unparse(k.value) for k in node.keywords}
    inherited = _of_class(*base)
    return [Argument(a.name, a.annotation, presets.get(a.name, a.default)) for a in inherited]


def _base(node: ast.ClassDef, tree: ast.Module) -> tuple[ast.ClassDef, ast.Module] | None:
    """The first base that torso defines."""
    return next((found for e in node.bases if (found := _class_of(e, tree)) is not None), None)


def _class_of(expression: ast.expr, tree: ast.Module) -> tuple[ast.ClassDef, ast.Module] | None:
    """A class of torso by the name that a file knows it by: defined in it, or imported."""
    if not isinstance(expression, ast.Name):
        return None
    for item in tree.body:
        if isinstance(item, ast.ClassDef) and item.name == expression.id:
            return item, tree
    home = _imported(expression.id, tree)
    return None if home is None else _class_of(ast.Name(home[0]), home[1])


def _doc(node: ast.FunctionDef | ast.ClassDef, tree: ast.Module) -> str:
    """The docstring; of a class whose arguments are its base's, the base's after it."""
    own = ast.get_docstring(node) or ""
    if isinstance(node, ast.FunctionDef) or "Args:" in own:
        return own
    if any(isinstance(item, ast.FunctionDef) and item.name == "__init__" for item in node.body):
        return own
    base = _base(node, tree)
    inherited = _doc(*base) if base is not None else ""
    return "\n\n".join(text for text in (own, inherited) if text)


def ancestors(kind: str, name: str) -> list[str]:
    """Names of the classes that a part derives from, nearest first, as far as torso defines them."""
    try:
        tree, node = _definition(kind, name)
    except PartError:  # declared by a package without a source to read
        return []
    found: list[str] = []
    base = _base(node, tree) if isinstance(node, ast.ClassDef) else None
    while base is not None:
        found.append(base[0].name)
        base = _base(*base)
    return found
