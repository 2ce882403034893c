"""Values of arguments that hold no parts: checked against their annotation, read from text, named in words."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import types
import typing
from typing import Any

from torso.errors import PartError


def freeze(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    if isinstance(value, list | tuple):
        return tuple(freeze(v) for v in value)
    return value


def validate(hint: Any, value: Any, where: str) -> Any:
    """The value as the annotation has it: a whole number where a float is wanted becomes one. Or PartError."""
    from pydantic import ValidationError

    try:
        return _adapter(hint).validate_python(value)
    except ValidationError:
        raise PartError(f"{where} wants {words(hint)}; {value!r} ({type(value).__name__}) came") from None


def one_of(where: str, value: Any, known: Any) -> None:
    """PartError unless the value is one of a Literal's; for what is also called without a Part, which checks it."""
    choices = typing.get_args(known)
    if value not in choices:
        raise PartError(f"{where}={value!r} is unknown; choose one of {', '.join(map(str, choices))}")


@functools.cache
def _adapter(hint: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(hint, config=ConfigDict(strict=True, arbitrary_types_allowed=True))


def parse(hint: Any, text: str, where: str) -> Any:
    """A command-line text as the annotation's type: JSON first, comma lists for tuples, then the plain text."""
    for value in _readings(text):
        try:
            return validate(hint, value, where)
        except PartError:
            continue
    raise PartError(f"{where} wants {words(hint)}; {text!r} came")


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
    """An annotation in words: "a whole number or none", "a Neck part"."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
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
