"""Parts: constructor calls that can be compared, stored and changed before anything is built.

`part(FPN, channels=256)` is a call that still misses what its neighbour knows (the feature specs); it is bound and
type-checked at once, so that a typo fails on its own line. Nothing outside the part folders (`folders.py`) can be named
by a checkpoint or a YAML file.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from torso.errors import PartError, expect, mismatch
from torso.folders import (
    KINDS,
    describe,
    find,
    index,
    is_name,
    names,
    nearest,
    no_argument,
    qualified_name,
    refusals,
    singular,
)
from torso.foreign import is_foreign
from torso.plain_values import freeze, options, parse, validate, words

__all__ = [
    "KINDS",
    "Part",
    "PartError",
    "arguments",
    "describe",
    "find",
    "index",
    "is_name",
    "named",
    "names",
    "nearest",
    "part",
    "preset",
    "produced",
    "qualified_name",
    "refusals",
    "singular",
]

T = TypeVar("T")


class Part(Generic[T]):
    """A frozen constructor call: hashable, comparable, and round-tripped by `to_dict` / `from_dict`."""

    __slots__ = ("args", "target")
    target: Callable[..., T]
    args: tuple[tuple[str, Any], ...]

    def __init__(self, target: Callable[..., T], args: Mapping[str, Any]) -> None:
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "args", tuple(sorted(_checked(target, args).items())))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Part is frozen; use .with_args({name}=...) to get a changed copy")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and (self.target, self.args) == (other.target, other.args)

    def __hash__(self) -> int:
        return hash((self.target, self.args))

    def __repr__(self) -> str:
        return f"part({', '.join([self.target.__name__, *(f'{k}={v!r}' for k, v in self.args)])})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.target, dict(self.args))

    def build(self, *neighbours: Any) -> T:
        """Make the object; `neighbours` are the leading positional arguments (a neck's and a head's in_specs)."""
        return self.target(*neighbours, **dict(self.args))

    def get(self, name: str) -> Any:
        """The value of an argument: the one given, or the constructor's default."""
        given = dict(self.args)
        if name in given:
            return given[name]
        parameter = _parameters(self.target).get(name)
        if parameter is None:
            raise PartError(_unknown_argument(self.target, name))
        return None if parameter.default is inspect.Parameter.empty else parameter.default

    def accepts(self, name: str) -> bool:
        """Whether the constructor has an argument of that name."""
        return name in _parameters(self.target)

    def today(self, path: str) -> str:
        """The dotted path of an argument, where it begins with one of an earlier version's (`target.old_arguments`) the
        path of today.
        """
        head, dot, rest = path.partition(".")
        return _old_arguments(self.target).get(head, head) + dot + rest

    def with_args(self, /, **changes: Any) -> Part[T]:
        """A copy with some arguments changed."""
        return Part(self.target, {**dict(self.args), **changes})

    def swapped(self, other: Part[Any]) -> Part[Any]:
        """`other` in this part's place: arguments set here and known there by the same name carry over, unless set.

        So RetinaNet with the neck PAN keeps the levels and the channels that the model gave its FPN. A value that the
        other does not take (widths a level where it wants one number) stays behind.
        """
        own = dict(other.args)
        carried = {k: v for k, v in self.args if k not in own and other.accepts(k) and other._takes(k, v)}
        return Part(other.target, {**carried, **own})

    def _takes(self, name: str, value: object) -> bool:
        try:
            _checked(self.target, {name: value})
        except PartError:
            return False
        return True

    def override(self, path: str, value: object) -> Part[T]:
        """A copy with the argument at a dotted path changed; text is read by the argument's type (JSON, then plain).

        Raises PartError for an unknown path or a value of the wrong type.
        """
        path = self.today(path)
        head, _, rest = path.partition(".")
        if not self.accepts(head):
            raise PartError(_unknown_argument(self.target, head))
        if rest:
            inner = self.get(head)
            if isinstance(inner, tuple) and rest.split(".")[0].isdigit():
                index, _, rest = rest.partition(".")
                items = list(inner)
                if int(index) >= len(items) or not isinstance(items[int(index)], Part) or not rest:
                    raise PartError(f"{path}: {head} holds {len(items)} parts from 0 on; name one and an argument")
                items[int(index)] = items[int(index)].override(rest, value)
                return self.with_args(**{head: tuple(items)})
            if isinstance(inner, tuple) and len(inner) == 1:
                return self.with_args(**{head: (inner[0].override(rest, value),)})
            if not isinstance(inner, Part):
                raise PartError(f"{path}: {no_argument(head, inner, rest)}")
            return self.with_args(**{head: inner.override(rest, value)})
        hint = _hints(self.target).get(head, Any)
        if isinstance(value, str):
            read = _parse_part if _mentions_part(hint) else parse
            value = read(hint, value, f"{self.target.__name__}.{head}")
        return self.with_args(**{head: value})

    @property
    def name(self) -> str:
        """Its full name: kind.file for a part of torso, module:class for one of the caller's own."""
        return qualified_name(self.target)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: {"part": name, argument: value...} in the constructor's order; tuples become lists."""
        given = dict(self.args)
        return {"part": self.name, **{k: _plain(given[k]) for k in _parameters(self.target) if k in given}}

    @staticmethod
    def from_dict(data: Mapping[str, Any], *, allow: Sequence[str] = ()) -> Part[Any]:
        """The inverse of to_dict, for arguments as earlier versions called them too. Only parts of torso, or of
        modules named in `allow`, can be named.
        """
        expect("data", data, Mapping, "a mapping, as Part.to_dict gives it")
        if "part" not in data:
            raise PartError(f"a part is a mapping with the key 'part'; the keys here are {sorted(data)}")
        made = named(str(data["part"]), allow=allow)
        given = {k: _thaw(v, allow) for k, v in data.items() if k != "part"}
        old = [k for k in given if k in _old_arguments(made.target)]
        made = made.with_args(**{k: v for k, v in given.items() if k not in old})
        for name in old:
            made = made._set(made.today(name), given[name])
        return made

    def _set(self, path: str, value: object) -> Part[T]:
        """A copy with the argument at a dotted path of parts changed; the value is taken as it is."""
        head, _, rest = path.partition(".")
        return self.with_args(**{head: self.get(head)._set(rest, value) if rest else value})


def part(target: Callable[..., T] | str, /, **args: Any) -> Part[T]:
    """A constructor call to be finished by the neighbours; `target` is a class, a zoo function or a name."""
    if not isinstance(target, str) and not callable(target):
        raise mismatch("part", "a class, a function, or a part's name", target)
    return Part(find(target) if isinstance(target, str) else target, args)


def preset(init: Callable[..., None], defaults: Mapping[str, Any]) -> Callable[..., None]:
    """A constructor with other defaults and the same arguments: how a paper's head is a composition of a generic one.

    Raises PartError for a default that the constructor does not have.
    """
    signature = inspect.signature(init)
    for name in defaults:
        if name not in signature.parameters:
            raise PartError(f"a preset names {name!r}, which is no argument; {nearest(name, signature.parameters)}")
    changed = [p.replace(default=defaults[n]) if n in defaults else p for n, p in signature.parameters.items()]

    @functools.wraps(init)
    def constructor(self: Any, *neighbours: Any, **args: Any) -> None:
        init(self, *neighbours, **{**defaults, **args})

    constructor.__signature__ = signature.replace(parameters=changed)  # type: ignore[attr-defined]
    return constructor


def named(name: str, kind: str | None = None, *, allow: Sequence[str] = ()) -> Part[Any]:
    """The Part of a name with its defaults; a preset (a function without arguments) is called for it.

    Raises PartError for an unknown name, naming the nearest.
    """
    target = find(name, kind, allow=allow)
    if not inspect.isfunction(target) or inspect.signature(target).parameters:
        return part(target)
    return _returned(part(target))


@functools.cache
def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The keyword-only parameters; the leading positional ones belong to the neighbours."""
    signature = inspect.signature(target)
    return {n: p for n, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _old_arguments(target: Callable[..., Any]) -> Mapping[str, str]:
    old: Mapping[str, str] = getattr(target, "old_arguments", {})
    return old


@functools.cache
def _hints(target: Callable[..., Any]) -> Mapping[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    return typing.get_type_hints(function, include_extras=True)


def _unknown_argument(target: Callable[..., Any], name: str) -> str:
    known = list(_parameters(target))
    help_ = nearest(name, known) if known else "it takes none"
    return f"{target.__name__} has no argument {name!r}; {help_}"


def _checked(target: Callable[..., Any], args: Mapping[str, Any]) -> dict[str, Any]:
    known = _parameters(target)
    for name in args:
        if name not in known:
            raise PartError(_unknown_argument(target, name))
    hints = _hints(target)
    return {n: _check(hints.get(n, Any), freeze(v), f"{target.__name__}.{n}") for n, v in args.items()}


def _check(hint: Any, value: Any, where: str) -> Any:
    """The value if it fits the annotation, else PartError."""
    if not _mentions_part(hint):
        if isinstance(value, Part):
            raise mismatch(where, words(hint), value)
        return validate(hint, value, where)
    for option in options(hint):
        if _fits(option, value):
            return value
    raise mismatch(where, words(hint), value)


def _mentions_part(hint: Any) -> bool:
    return hint is Part or typing.get_origin(hint) is Part or any(map(_mentions_part, typing.get_args(hint)))


def _fits(hint: Any, value: Any) -> bool:
    if typing.get_origin(hint) is Part or hint is Part:
        if not isinstance(value, Part):
            return False
        wanted = typing.get_args(hint)[0] if typing.get_args(hint) else object
        return isinstance(wanted, TypeVar) or wanted is Any or issubclass(produced(value), wanted)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        return isinstance(value, tuple) and all(any(_fits(o, v) for o in options(inner[0])) for v in value)
    if hint is type(None):
        return value is None
    try:
        validate(hint, value, "")
    except PartError:
        return False
    return not isinstance(value, Part)


def arguments(target: Callable[..., Any]) -> list[str]:
    """Names of the keyword-only arguments of a part's constructor."""
    return list(_parameters(target))


def produced(p: Part[Any]) -> type:
    """The class that a part builds; for a zoo function, the class of the part that it returns."""
    if inspect.isclass(p.target):
        return p.target
    return produced(_returned(p))


def _returned(p: Part[Any]) -> Part[Any]:
    """The Part that a function such as a preset or a zoo model gives; PartError where it gives something else."""
    made = p.target(**dict(p.args))
    if not isinstance(made, Part):
        raise PartError(f"{p.name} must return a Part, such as part(Detector, ...); it returns a {type(made).__name__}")
    return made


def _parse_part(hint: Any, text: str, where: str) -> Any:
    """A command-line text as a part, by its short name or as "module:Class"."""
    if text.lower() == "none":
        for nothing in ((), None):
            if any(_fits(option, nothing) for option in options(hint)):
                return nothing
    for candidate in _called(text):
        for option in options(hint):
            if _fits(option, candidate):
                return candidate
            if typing.get_origin(option) is tuple and _fits(option, (candidate,)):
                return (candidate,)
    if is_foreign(text):
        raise PartError(f"{where}: expected {words(hint)}, got {text!r}, which is a {produced(named(text)).__name__}")
    raise mismatch(where, words(hint), text)


def _called(text: str) -> Iterator[Part[Any]]:
    """The parts of that name, of every kind; the one of "module:Class"."""
    if is_foreign(text):
        yield named(text)
        return
    name = text.replace("-", "_")
    for kind in KINDS:
        if name in names(kind):
            yield named(name, kind)


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


def _thaw(value: Any, allow: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        return Part.from_dict(value, allow=allow)
    if isinstance(value, list):
        return tuple(_thaw(v, allow) for v in value)
    return value
