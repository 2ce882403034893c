"""Flags: strict, without abbreviations, with the nearest one named; dotted ones are set apart for the parts."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import NoReturn

_DOTTED = re.compile(r"--([A-Za-z_][\w-]*(?:\.[\w-]+)+)(?:=(.*))?", re.DOTALL)


class UsageError(ValueError):
    """A command line that cannot be meant; exit status 2."""


class Parser(argparse.ArgumentParser):
    """argparse that never abbreviates, never exits on an error, and says what was meant.

    dotted: names that may stand before the first dot of a dotted flag; the found ones come as args.dotted, a dict of
    path ("neck.channels") to text. None: the verb takes no dotted flags.
    elsewhere: flags of other verbs that are easily taken for one of this, each with what to give in its place.
    """

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.dotted: tuple[str, ...] | None = None
        self.elsewhere: dict[str, str] = {}

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The arguments; UsageError for anything unknown, missing or of the wrong type."""
        rest, dotted = self._split_dotted(list(argv))
        self._refuse_unknown(rest)
        args = self.parse_args(rest)
        args.dotted = dotted
        return args

    def flags(self) -> list[str]:
        """Every flag of this verb, as it is typed."""
        return [o for action in self._actions for o in action.option_strings if o.startswith("--")]

    def _split_dotted(self, argv: list[str]) -> tuple[list[str], dict[str, str]]:
        rest: list[str] = []
        dotted: dict[str, str] = {}
        while argv:
            word = argv.pop(0)
            if word == "--":
                return [*rest, word, *argv], dotted
            match = _DOTTED.fullmatch(word)
            if match is None:
                rest.append(word)
                continue
            path = match[1].replace("-", "_")
            self._check_root(word, path)
            if path in dotted:
                raise UsageError(f"--{path} came twice; give it once")
            dotted[path] = match[2] if match[2] is not None else self._value_of(word, argv)
        return rest, dotted

    def _check_root(self, word: str, path: str) -> None:
        root = path.partition(".")[0]
        if self.dotted is None:
            raise UsageError(f"unknown flag {word.partition('=')[0]}; {self.prog} takes no arguments of parts")
        if root not in self.dotted:
            close = difflib.get_close_matches(root, self.dotted, n=1)
            meant = f"did you mean '--{close[0].replace('_', '-')}.{path.partition('.')[2]}'?" if close else ""
            hint = meant or f"a dotted flag begins with one of {', '.join(self.dotted)}"
            raise UsageError(f"unknown flag {word.partition('=')[0]}; {hint}")

    def _value_of(self, word: str, argv: list[str]) -> str:
        if not argv or (argv[0].startswith("-") and not re.fullmatch(r"-[\d.].*", argv[0])):
            raise UsageError(f"{word} wants a value: {word}=VALUE")
        return argv.pop(0)

    def _refuse_unknown(self, rest: Sequence[str]) -> None:
        """argparse would say "unrecognized arguments" only after everything else, and never what was meant."""
        known = self.flags()
        for word in rest:
            if word == "--":
                return
            flag = word.partition("=")[0]
            if flag.startswith("--") and flag not in known:
                hint = self.elsewhere.get(flag) or _meant(flag, known) or f"see {self.prog} --help"
                raise UsageError(f"unknown flag {flag}; {hint}")


def _meant(flag: str, known: Sequence[str]) -> str:
    """A question that names the flags near a mistyped one, the nearest first; empty where none is.

    The dashes before are no likeness, and beside a flag that is nearly what came a far one only misleads.
    """
    close = difflib.get_close_matches(flag[2:], [k[2:] for k in known], n=3, cutoff=0.6)
    likeness = [difflib.SequenceMatcher(None, name, flag[2:]).ratio() for name in close]
    near = [f"'--{name}'" for name, how in zip(close, likeness, strict=True) if how > max(likeness) - 0.15]
    return f"did you mean {' or '.join(near)}?" if near else ""
