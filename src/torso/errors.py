"""Errors that carry what came, what was expected and the remedy as data; the command line words remedies as flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

Settings = Mapping[str, object]
"""Arguments to set together: {dotted path in a recipe: value}: {"head.coder": "ltrb", "criterion.box.loss": "kl"}.

Paths leave "model." out, as `Part.override` of a recipe does; a part stands by its short name.
"""

Remedy = Settings | str
"""One way out: arguments to set together, or a plain sentence where no argument helps."""


class Refusal(ValueError):
    """What cannot be done with what was given: base of the package's errors that know a way out.

    Args:
        message: what came and what was expected, without the remedy.
        argument: where it came ("FCOSHead.channels"), if it is one argument's value. got, expected: of that argument.
        remedies: ways out, of which each is enough.
    """

    def __init__(
        self,
        message: str,
        *,
        argument: str | None = None,
        got: object = None,
        expected: str | None = None,
        remedies: Sequence[Remedy] = (),
    ) -> None:
        super().__init__(message)
        self.message, self.argument, self.got, self.expected = message, argument, got, expected
        self.remedies = tuple(remedies)

    def __str__(self) -> str:
        return self.worded(in_python)

    def worded(self, settings: Callable[[Settings], str]) -> str:
        """The whole sentence, with `settings` saying how arguments are set ("set head.finest=16")."""
        ways = [remedy if isinstance(remedy, str) else settings(remedy) for remedy in self.remedies]
        return f"{self.message}: {', or '.join(dict.fromkeys(ways))}" if ways else self.message

    def within(self, paths: Mapping[str, str], message: str = "{}") -> Self:
        """The same error of a part inside another: beginnings of the remedies' paths replaced, the longest first.

        message: the new one, with {} for the old.
        """
        moved = tuple(r if isinstance(r, str) else {_moved(p, paths): v for p, v in r.items()} for r in self.remedies)
        return type(self)(
            message.format(self.message), argument=self.argument, got=self.got, expected=self.expected, remedies=moved
        )

    def found_in(self, where: object) -> Self:
        """The same error, told of the file that it came from."""
        return self.within({}, str(where).replace("{", "{{").replace("}", "}}") + ": {}")

    def __reduce__(self) -> tuple[Any, ...]:
        state = {k: getattr(self, k) for k in ("argument", "got", "expected", "remedies")}
        return _rebuilt, (type(self), self.message, state)


class PartError(Refusal):
    """A part that cannot be made, or parts that do not go together."""


def mismatch(argument: str, expected: str, got: object, *, remedies: Sequence[Remedy] = ()) -> PartError:
    """The error of one argument's value: "ARGUMENT: expected ..., got ..."."""
    return PartError(
        f"{argument}: expected {expected}, got {got!r}",
        argument=argument,
        got=got,
        expected=expected,
        remedies=remedies,
    )


class Kind:
    """A value that is told by its kind where writing it out would be long: "a list of 3", "a tensor [2, 3]"."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        value = self.value
        if value is None or (isinstance(value, bool | int | float | str | Path) and len(repr(value)) <= 80):
            return repr(value)
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        if shape is not None and dtype is not None:
            return f"a {type(value).__name__} {list(shape)} of {dtype}"
        if isinstance(value, type):
            return f"the class {value.__name__}"
        size = f" of {len(value)}" if isinstance(value, list | tuple | dict | set) else ""
        name = type(value).__name__
        return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}{size}"


def expect(argument: str, value: object, kinds: type | tuple[type, ...], expected: str) -> None:
    """PartError unless the argument's value is of one of these kinds; True and False count as bool only."""
    allowed = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed and object not in allowed):
        raise mismatch(argument, expected, Kind(value))


def in_python(settings: Settings) -> str:
    """Settings as a Python caller reads them: "set head.finest=16 and head.coarsest=64"."""
    return "set " + " and ".join(f"{path}={value!r}" for path, value in settings.items())


def _moved(path: str, paths: Mapping[str, str]) -> str:
    for old in sorted(paths, key=len, reverse=True):
        if path == old or path.startswith(old + "."):
            return paths[old] + path[len(old) :]
    return path


def _rebuilt(kind: type[Refusal], message: str, state: Mapping[str, Any]) -> Refusal:
    return kind(message, **state)
