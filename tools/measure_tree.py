"""How a checkout is cut into files and functions: the table of docs/architecture.md.

    python tools/measure_tree.py [CHECKOUT]

Counts src/torso alone. Circles and imports between rooms count every import, those under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path


def imports(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Module -> modules of torso that it imports."""
    graph = {}
    for name, file in modules.items():
        found = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                found |= {f if f in modules else str(node.module) for f in full}
        graph[name] = (found & modules.keys()) - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> int:
    """Groups of files of which each can be reached from each other by imports."""
    reached = {start: _reach(graph, start) for start in graph}
    return len({frozenset(b for b in reached[a] if a in reached[b]) for a in graph if a in reached[a]})


def _reach(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead += graph[name]
    return seen


def function_lengths(file: Path) -> list[int]:
    """Lines of each function, its signature and docstring included."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [n.end_lineno - n.lineno + 1 for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.end_lineno]


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]) / "src"
    files = sorted((root / "torso").rglob("*.py"))
    modules = {".".join(f.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): f for f in files}
    graph = imports(modules)
    lines = [len(f.read_text(encoding="utf-8").splitlines()) for f in files]
    siblings = [n for n in modules if n.rpartition(".")[2].startswith("_") and not n.endswith("__main__")]
    alone = [n for n in siblings if sum(n in found for found in graph.values()) == 1]
    small = [n for f, n in zip(files, lines, strict=True) if n <= 35 and f.name != "__init__.py"]
    functions = sorted(n for f in files for n in function_lengths(f))
    print(
        f"files                       {len(files)}, median {statistics.median(lines):.0f} lines, longest {max(lines)}"
    )
    print(f"of 35 lines or fewer        {len(small)} (besides __init__)")
    print(f"underscore siblings         {len(siblings)}, {len(alone)} of them with one importer: {' '.join(alone)}")
    print(f"circles of files            {circles(graph)}")
    p95 = functions[int(len(functions) * 0.95)]
    print(f"function lines              median {statistics.median(functions):.0f}, 95 % {p95}, longest {functions[-1]}")


if __name__ == "__main__":
    main()
