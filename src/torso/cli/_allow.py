"""--allow: the permission to import parts from outside torso, for this process and those that it starts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from torso.cli._flags import Parser, UsageError
from torso.cli._remedies import sentence
from torso.foreign import ENVIRONMENT, check, is_foreign, modules
from torso.parts import PartError


def add_argument(parser: Parser) -> None:
    """--allow, of every verb that opens or composes a model."""
    parser.add_argument(
        "--allow",
        action="append",
        metavar="MODULE",
        help="trust this package: its parts may be named, as mypkg.parts:Squeeze",
    )


@contextmanager
def allowed(args: argparse.Namespace) -> Iterator[None]:
    """Inside, what --allow and TORSO_ALLOW name may be imported, from the current directory too.

    Permission and path stand where loader workers and Lightning's processes, one a device, inherit them.
    """
    before, path = os.environ.get(ENVIRONMENT), list(sys.path)
    listed = [*_modules("--allow", getattr(args, "allow", None) or ()), *_modules(ENVIRONMENT, before or "")]
    if listed:
        os.environ[ENVIRONMENT] = ",".join(dict.fromkeys(listed))
        sys.path.append(os.getcwd())  # last: a file here hides no installed package
    try:
        yield
    finally:
        sys.path[:] = path
        os.environ.pop(ENVIRONMENT, None)
        if before is not None:
            os.environ[ENVIRONMENT] = before


def check_name(flag: str, name: str) -> bool:
    """Whether a flag's value is the name of a foreign part; UsageError for one that may not be imported."""
    if not is_foreign(name):
        return False
    try:
        check(name)
    except PartError as error:
        raise UsageError(f"{flag}: {sentence(error)}") from None
    return True


def _modules(where: str, given: object) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given)  # type: ignore[call-overload]
    try:
        return [name for text in texts for name in modules(text)]
    except PartError as error:
        raise UsageError(f"{where}: expected names of modules, as mypkg,other; got {error.got!r}") from None
