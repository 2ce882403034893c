"""Values of arguments that hold no parts: checked against their annotation, read from text, named in words.

Bounds stand in signatures (`bounds.py`). Part checks them, as every other type; `Checked` and `checked` do so where a
constructor or a function is called directly.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import math
import operator
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from annotated_types import Interval

from torso.errors import PartError, mismatch

F = TypeVar("F", bound=Callable[..., Any])


def freeze(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    if isinstance(value, list | tuple):
        return tuple(freeze(v) for v in value)
    return value


def validate(hint: Any, value: Any, where: str) -> Any:
    """The value as the annotation has it: a whole number where a float is expected becomes one. Or PartError."""
    if _is_plainly(hint, value):
        return value
    from pydantic import ValidationError

    try:
        return _adapter(hint).validate_python(value)
    except ValidationError:
        raise mismatch(where, words(hint), value) from None


def _is_plainly(hint: Any, value: Any) -> bool:
    """Whether the value is a number, a text or none just as the annotation has it: said without importing pydantic."""
    return any(_is_just(option, value) for option in options(hint))


def _is_just(option: Any, value: Any) -> bool:
    kind, *rules = typing.get_args(option) if typing.get_origin(option) is typing.Annotated else (option,)
    if kind not in (int, float, str, bool, type(None)) or type(value) is not kind or value != value:
        return False
    if rules and isinstance(value, float) and math.isinf(value):
        return False
    return all(isinstance(rule, Interval) and _within(rule, value) for rule in rules)


def _within(rule: Interval, value: Any) -> bool:
    above = (rule.gt is None or value > rule.gt) and (rule.ge is None or value >= rule.ge)
    return above and (rule.lt is None or value < rule.lt) and (rule.le is None or value <= rule.le)


@functools.cache
def _adapter(hint: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(_finite(hint), config=ConfigDict(strict=True, arbitrary_types_allowed=True))


def _finite(hint: Any) -> Any:
    """The same annotation, in which a number with a bound is neither NaN nor infinite."""
    from pydantic import AllowInfNan

    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = (*inner[1:], AllowInfNan(False)) if inner[0] is float else inner[1:]
        return Annotated[(_finite(inner[0]), *bounds)]
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, map(_finite, inner))
    return types.GenericAlias(tuple, tuple(map(_finite, inner))) if origin is tuple else hint


class Checked:
    """A base class whose subclasses' constructors hold the bounds and the words of their signatures.

    Only direct calls need it: a Part has checked its arguments when it was made.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = checked(cls.__dict__["__init__"])  # type: ignore[method-assign]


def check_rising(who: str, **pair: float) -> None:
    """PartError unless the second of two arguments is as large as the first."""
    (low, small), (high, large) = pair.items()
    if small > large:
        raise mismatch(f"{who}.{high}", f"a number of at least {low}={small!r}", large)


def checked(function: F) -> F:
    """A decorator: PartError where an argument lies outside its bound, or is none of a Literal's words.

    Arguments without either are left to the function, as are those that are not given. Values are passed on as they
    came.
    """
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _compiling():
            return function(*args, **kwargs)
        hints = _bounded(function)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        who = type(args[0]).__name__ if function.__name__ == "__init__" else function.__name__
        for name in hints.keys() & given.keys():
            validate(hints[name], _number(freeze(given[name])), f"{who}.{name}")
        return function(*args, **kwargs)

    return typing.cast(F, call)


def _compiling() -> bool:
    """Whether torch.compile traces this call: it cannot trace a check, and sees only arguments that eager mode saw."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


def check_fields(record: Any) -> None:
    """The same of a dataclass's own fields, for its __post_init__."""
    if _compiling():
        return
    for name, hint in _bounded(typing.cast(Any, type(record))).items():
        validate(hint, _number(freeze(getattr(record, name))), f"{type(record).__name__}.{name}")


@functools.cache
def _bounded(owner: Callable[..., Any]) -> Mapping[str, Any]:
    """The annotations of a function's arguments, or a class's fields, that state a bound or words."""
    found = {name: _resolved(owner, name) for name in getattr(owner, "__annotations__", {})}
    return {name: hint for name, hint in found.items() if name != "return" and _states_bound(hint)}


def _resolved(owner: Callable[..., Any], name: str) -> Any:
    namespace = getattr(owner, "__globals__", None) or vars(sys.modules[owner.__module__])
    alone = types.SimpleNamespace(__annotations__={name: owner.__annotations__[name]})
    try:
        return typing.get_type_hints(alone, namespace, include_extras=True)[name]
    except NameError:  # a name for type checkers alone, which is none of a number's
        return Any


def _states_bound(hint: Any) -> bool:
    return typing.get_origin(hint) in (Annotated, typing.Literal) or any(map(_states_bound, typing.get_args(hint)))


def _number(value: Any) -> Any:
    """numpy's and torch's single numbers as Python's own."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def parse(hint: Any, text: str, where: str) -> Any:
    """A command-line text as the annotation's type: JSON first, comma lists for tuples, then the plain text."""
    for value in _readings(text):
        try:
            return validate(hint, value, where)
        except PartError:
            continue
    raise mismatch(where, words(hint), text)


def _readings(text: str) -> list[Any]:
    readings: list[Any] = []
    with contextlib.suppress(json.JSONDecodeError):
        readings.append(freeze(json.loads(text)))
    if text.lower() in ("none", "true", "false"):
        readings.append({"none": None, "true": True, "false": False}[text.lower()])
    if "," in text:
        try:
            readings.append(freeze(json.loads(f"[{text}]")))
        except json.JSONDecodeError:
            readings.append(tuple(text.split(",")))
    readings.append(text)
    return readings + [(value,) for value in readings if not isinstance(value, tuple)]  # a list of one needs no comma


def options(hint: Any) -> tuple[Any, ...]:
    """The members of a union; an annotation that is none, alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def words(hint: Any) -> str:
    """An annotation in words: "a whole number or none", "a number above 0 and at most 1", "a Neck part"."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _bounded_words(words(inner[0]), inner[1:])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(words, inner))
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, inner))
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            return f"a list of {words(inner[0])}"
        return f"{len(inner)} values ({', '.join(map(words, inner))})"
    if inspect.isclass(origin) and origin.__name__ == "Part":
        return f"a {getattr(inner[0], '__name__', inner[0])} part"
    return {type(None): "none", int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )


def _bounded_words(base: str, bounds: Sequence[Any]) -> str:
    """What the metadata of an Annotated add to the words of its type."""
    for bound in bounds:
        if hasattr(bound, "min_length"):
            base += f", at least {'one' if bound.min_length == 1 else bound.min_length}"
        elif hasattr(bound, "multiple_of"):
            base = base.replace("a whole", "an even whole" if bound.multiple_of == 2 else "a whole")
        elif hasattr(bound, "func"):
            base = base.replace("a ", f"an {bound.func.__name__} ", 1)
    said = interval_words(*(getattr(b, k) for b in bounds if hasattr(b, "ge") for k in ("gt", "ge", "lt", "le")))
    return f"{base} {said}" if said else base


def interval_words(gt: Any = None, ge: Any = None, lt: Any = None, le: Any = None) -> str:
    """Of a bound: "from 0 to 1", "above 0 and below 1", "of at least 1"."""
    if ge is not None and le is not None:
        return f"from {ge:g} to {le:g}"
    sides = {"above": gt, "of at least": ge, "below": lt, "at most": le}
    return " and ".join(f"{word} {limit:g}" for word, limit in sides.items() if limit is not None)
