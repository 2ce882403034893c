"""Parts as YAML: written to be read by people, read back with one clear sentence for every mistake."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from torso.errors import expect
from torso.parts import Part, PartError


def to_yaml(part: Part[Any]) -> str:
    """The part as YAML; `from_yaml` gives an equal part back."""
    return yaml.safe_dump(part.to_dict(), sort_keys=False, allow_unicode=True, width=100)


def from_yaml(source: str | Path, *, allow: Sequence[str] = ()) -> Part[Any]:
    """The part of a YAML file, or of YAML text (text with a line break in it).

    Only parts of torso, or of modules named in `allow`, can be named. Raises PartError, naming the file and the
    line where there is one.
    """
    expect("source", source, (str, Path), "a YAML file's path, or YAML text")
    text, where = _read(source)
    try:
        data = yaml.load(text, Loader=_Loader)  # a SafeLoader: plain data only
    except yaml.YAMLError as error:
        raise PartError(f"{where} is no valid YAML: {_first_problem(error)}") from None
    if not isinstance(data, Mapping) or "part" not in data:
        raise PartError(
            f"{where} must hold a part: a mapping with the key 'part' (as `torso show MODEL` prints it); "
            f"it holds {_kind(data)}"
        )
    try:
        return Part.from_dict(data, allow=allow)
    except PartError as error:
        raise error.found_in(where) from None


def _read(source: str | Path) -> tuple[str, str]:
    if isinstance(source, str) and "\n" in source:
        return source, "the YAML text"
    try:
        return Path(source).read_text(encoding="utf-8"), str(source)
    except FileNotFoundError:
        raise PartError(f"no file at {source}; give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PartError(f"{source} cannot be read as a YAML file: {error}") from None


def _first_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).split("\n")[0]
    return f"{problem}, line {mark.line + 1}" if mark is not None else problem


def _kind(data: object) -> str:
    if isinstance(data, Mapping):
        return f"a mapping with the keys {', '.join(map(repr, data)) or '(none)'}"
    return "nothing" if data is None else f"a {type(data).__name__}"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers and booleans (1e-4 is a number, yes is a word), and no key twice."""

    # own copies: the base class's table is shared by every SafeLoader of the process
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith((":bool", ":float"))]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^([-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)
