"""Bounds and words of arguments, read from signatures by ast: values of flags are refused before torch is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from annotated_types import Interval, MinLen, MultipleOf, Predicate

from torso import bounds
from torso.cli._flags import UsageError
from torso.cli._signature import Argument, ancestors, read_callable, read_signature
from torso.parts import KINDS, PartError, names
from torso.plain_values import parse, validate, words

_NAMES: Mapping[str, Any] = {
    "int": int, "float": float, "bool": bool, "str": str, "tuple": tuple, "Annotated": Annotated, "Literal": Literal,
    "Interval": Interval, "MinLen": MinLen, "MultipleOf": MultipleOf, "Predicate": Predicate, "odd": bounds.odd,
}  # fmt: skip


def hint(annotation: str) -> Any:
    """The type that an annotation stands for; None where it names more than numbers, words and their bounds."""
    try:
        return _value(ast.parse(annotation, mode="eval").body)
    except (KeyError, SyntaxError):
        return None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return _NAMES[node.id]
    if isinstance(node, ast.Tuple):
        return tuple(map(_value, node.elts))
    if isinstance(node, ast.Subscript):
        return _value(node.value)[_value(node.slice)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _value(node.left) | _value(node.right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Call):
        keywords = {k.arg: _value(k.value) for k in node.keywords if k.arg is not None}
        return _value(node.func)(*map(_value, node.args), **keywords)
    raise KeyError(ast.unparse(node))


def shown(annotation: str) -> str:
    """An annotation for a reader, each bound in words: "int of at least 1 | None"."""
    return ast.unparse(_Shown().visit(ast.parse(annotation, mode="eval"))) if "Annotated" in annotation else annotation


class _Shown(ast.NodeTransformer):
    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        if ast.unparse(node.value) != "Annotated" or not isinstance(node.slice, ast.Tuple):
            return node
        base, *metadata = node.slice.elts
        said = words(Annotated[(float, *map(_value, metadata))])
        return ast.Name(re.sub(r"\ba?n? ?((?:odd|even)?) ?number", rf"\1 {ast.unparse(base)}", said).strip())


def check_values(module: str, symbol: str, given: Mapping[str, Any]) -> None:
    """UsageError for a flag whose value the argument of the same name does not take; None is a flag not given."""
    for argument in read_callable(module, symbol):
        value, kind = given.get(argument.name), hint(argument.annotation)
        if value is not None and kind is not None:
            _refuse("--" + argument.name.replace("_", "-"), [kind], value)


def check_number(flag: str, value: float | None, module: str, symbol: str, argument: str) -> None:
    """The same of one flag that is not called as its argument is."""
    annotation = next(a.annotation for a in read_callable(module, symbol) if a.name == argument)
    if value is not None:
        _refuse("--" + flag, [hint(annotation)], value)


def check_holdout(share: float | None) -> None:
    """UsageError where so large a share of train, held out as val, leaves nothing on one side."""
    check_number("holdout", share, "torso.data.layout", "held_out", "fraction")


def check_texts(texts: Mapping[str, str], chosen: Mapping[str, str], *, flags: Mapping[str, str] | None = None) -> None:
    """UsageError for a text that no part can take which may stand at its dotted path in a recipe.

    chosen: {path: name} of the parts that the command line names. flags: {path: flag}, where it is not the path.
    """
    for path, text in texts.items():
        kinds = [hint(argument.annotation) for argument in _arguments(path, chosen)]
        if kinds and None not in kinds:
            own = f"--{path}" if "." in path else "--" + path.replace("_", "-")
            _refuse((flags or {}).get(path, own), kinds, text)


def _refuse(flag: str, kinds: list[Any], value: Any) -> None:
    read = parse if isinstance(value, str) else validate
    told = None
    for kind in kinds:
        try:
            read(kind, value, flag)
        except PartError as error:
            told = told or error
        else:
            return
    raise UsageError(str(told))


def _arguments(path: str, chosen: Mapping[str, str]) -> list[Argument]:
    """Those that may stand at a dotted path, of every part that may be there."""
    *holders, name = path.split(".")
    owners = [("recipes", "recipe")]
    for depth, holder in enumerate(holders):
        inner = [] if holder.isdigit() else _named(owners, holder)
        if not depth and not inner:
            inner = _named([("models", "detector"), *(("criteria", n) for n in names("criteria"))], holder)
        wanted = {word for a in inner for word in re.findall(r"Part\[(\w+)\]", a.annotation)}
        owners = owners if holder.isdigit() else [owner for owner in _parts() if wanted & _bases(*owner)]
        called = chosen.get(".".join(holders[: depth + 1]))
        owners = [(k, n) for k, n in owners if called is None or n == called.replace("-", "_")]
    return _named(owners, name)


def _named(owners: list[tuple[str, str]], name: str) -> list[Argument]:
    return [a for owner in owners for a in _read(*owner) if a.name == name]


def _read(kind: str, name: str) -> tuple[Argument, ...]:
    """Of a part; none of one that an installed package declares without a source to read."""
    try:
        return read_signature(kind, name).arguments
    except PartError:
        return ()


def _parts() -> Iterator[tuple[str, str]]:
    return ((kind, name) for kind in KINDS if kind not in ("zoo", "recipes", "models") for name in names(kind))


def _bases(kind: str, name: str) -> set[str]:
    try:
        return {read_signature(kind, name).symbol, *ancestors(kind, name)}
    except PartError:
        return set()
