"""Imports run one way: no circle of files, and only downwards in the order of rooms that docs/architecture.md gives.

Every import counts, those inside functions and under TYPE_CHECKING too: a reader follows them all.
"""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
CIRCLES_KNOWN: tuple[str, ...] = ()


@cache
def graph() -> dict[str, set[str]]:
    """Module -> modules of torso that it imports."""
    files = sorted((SOURCE / "torso").rglob("*.py"))
    modules = {".".join(f.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): f for f in files}
    return {name: _imports(file, modules) - {name} for name, file in modules.items()}


def _imports(file: Path, modules: dict[str, Path]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in modules else str(node.module) for name in names}
    return found & modules.keys()


def rooms() -> list[str]:
    """From low to high, as the page says: the first code block after its words "from low to high"."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return page.split("from low to high", 1)[1].split("```")[1].removeprefix("text").split()


def room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def test_every_file_lies_in_a_room() -> None:
    assert len(rooms()) == len(set(rooms()))
    assert {room(module) for module in graph()} == set(rooms())


def test_imports_run_downwards() -> None:
    height = {name: i for i, name in enumerate(rooms())}
    up = [f"{a} imports {b}" for a in graph() for b in graph()[a] if height[room(b)] > height[room(a)]]
    assert not up


def test_no_files_import_each_other_in_a_circle() -> None:
    inside = {a for a in graph() if a.startswith(CIRCLES_KNOWN)}
    try:
        TopologicalSorter({a: {b for b in graph()[a] if not {a, b} <= inside} for a in graph()}).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None
