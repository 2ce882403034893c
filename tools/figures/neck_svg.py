"""Images of necks, drawn from the modules themselves: `python -m tools.figures.neck_svg docs/figures/necks`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import torch

from tools.figures.neck_graph import Graph, Node, neck_graph
from torso.parts import Part, named, names
from torso.types import FeatureSpec

INCOMING: tuple[tuple[FeatureSpec, ...], ...] = (
    tuple(FeatureSpec(c, (s, s)) for c, s in ((256, 4), (512, 8), (1024, 16), (2048, 32))),  # ResNet-50
    tuple(FeatureSpec(c, (s, s)) for c, s in ((512, 8), (1024, 16))),  # SSD's VGG
    tuple(FeatureSpec(256, (s, s)) for s in (8, 16, 32, 64, 128)),  # another neck
)
"""What a neck is drawn behind: the first of these that it takes."""

FEWER: Mapping[str, int] = {"repeats": 1, "layers": 1, "tums": 2}
"""Arguments by which necks repeat themselves, and how often the drawn ones do."""

VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "pan_concat": ("pan", {"form": "concat", "channels": (128, 256, 512), "coarsest": 32}),
}
"""Further figures: the neck's name and arguments."""

_WIDTH, _HEIGHT, _COLUMN, _ROW, _TOP = 84, 20, 114, 34, 40
_STYLE = (
    "text{font:11px system-ui,sans-serif;text-anchor:middle;fill:#16202a}.h{fill:#5b6875}.s{font-size:9px}"
    "path{fill:none;stroke:#8a97a5;stroke-width:1.1}rect{stroke:#5b6875;stroke-width:.8}"
    ".input{fill:#dbe7f6}.output{fill:#16202a}.output+text{fill:#fff}.conv{fill:#fff}.module{fill:#efe6f8}"
    ".join{fill:#fbe3c0}.resize{fill:#dcf1e0}.bg{fill:#fff;stroke:none}.band{fill:#f4f7fa;stroke:none}"
)


def figures() -> list[str]:
    """Names of all figures: the necks' and the variants'."""
    return sorted([*names("necks"), *VARIANTS])


def drawn_graph(figure: str) -> Graph:
    """The graph of a neck with its defaults but for FEWER, or of a variant; ValueError where it takes no INCOMING."""
    name, arguments = VARIANTS.get(figure, (figure, {}))
    chosen: Part[Any] = named(name, "necks").with_args(**arguments)
    chosen = chosen.with_args(**{k: v for k, v in FEWER.items() if chosen.accepts(k)})
    reasons = []
    for specs in INCOMING:
        try:
            with torch.device("meta"):
                neck = chosen.build(specs)
        except ValueError as reason:
            reasons.append(str(reason))
            continue
        return neck_graph(neck, specs)
    raise ValueError(f"{name} takes none of the levels that figures are drawn with: {'; '.join(reasons)}")


def svg(graph: Graph, title: str) -> str:
    """The graph as an image: a column a level, fine to coarse; what is computed later lies lower."""
    rows = _rows(graph)
    column = {level: i for i, level in enumerate(graph.levels)}
    at = [(_COLUMN * column[n.level] + _COLUMN // 2, _TOP + _ROW * r) for n, r in zip(graph.nodes, rows, strict=True)]
    width, height = _COLUMN * len(graph.levels), _TOP + _ROW * (max(rows) + 1)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img"><title>{escape(title)}</title><style>{_STYLE}</style>',
        '<defs><marker id="a" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0 6 3 0 6z" style="fill:#8a97a5;stroke:none"/></marker></defs>',
        f'<rect class="bg" width="{width}" height="{height}"/>',
    ]
    for level, i in column.items():
        if i % 2:
            out.append(f'<rect class="band" x="{_COLUMN * i}" width="{_COLUMN}" height="{height}"/>')
        stride = f"stride {level[0]}" if level[0] == level[1] else f"stride {level[0]}, {level[1]}"
        out.append(f'<text class="h" x="{_COLUMN * i + _COLUMN // 2}" y="16">{stride}</text>')
    for a, b in graph.edges:
        out.append(f'<path d="{_curve(at[a], at[b])}" marker-end="url(#a)"/>')
    out += [_box(n, *xy) for n, xy in zip(graph.nodes, at, strict=True)]
    return "\n".join([*out, "</svg>"]) + "\n"


def _rows(graph: Graph) -> list[int]:
    """A row for each node: below its sources, alone in its column; inputs on top, outputs at the foot."""
    taken: set[tuple[object, int]] = set()
    rows: list[int] = []
    for node in graph.nodes:
        row = 1 + max((rows[s] for s in node.sources), default=-1)
        while (node.level, row) in taken:
            row += 1
        taken.add((node.level, row))
        rows.append(row)
    foot = 1 + max((r for r, n in zip(rows, graph.nodes, strict=True) if n.kind != "output"), default=0)
    return [foot if n.kind == "output" else r for r, n in zip(rows, graph.nodes, strict=True)]


def _curve(start: tuple[int, int], end: tuple[int, int]) -> str:
    """From the foot of one box to the head of another; past the boxes between, where both lie in one column."""
    (x1, y1), (x2, y2) = (start[0], start[1] + _HEIGHT // 2), (end[0], end[1] - _HEIGHT // 2)
    if x1 != x2 or end[1] - start[1] == _ROW:
        bend = max(8, (y2 - y1) // 3)
        return f"M{x1} {y1}C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}"
    side = x1 - _COLUMN // 2 + 5
    edge = x1 - _WIDTH // 2
    return f"M{edge} {start[1]}C{side - 4} {start[1]} {side} {start[1] + 12} {side} {start[1] + 24}" + (
        f"V{end[1] - 24}C{side} {end[1] - 12} {side - 4} {end[1]} {edge} {end[1]}"
    )


def _box(node: Node, x: int, y: int) -> str:
    left, top = x - _WIDTH // 2, y - _HEIGHT // 2
    text = escape(node.label)
    small = ' class="s"' if len(node.label) > 14 else ""
    return (
        f'<rect class="{node.kind}" x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="4"/>'
        f'<text{small} x="{x}" y="{y + 4}">{text}</text>'
    )


def main(folder: str) -> None:
    """Draw every neck into the folder, one file each."""
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    for name in figures():
        graph = drawn_graph(name)
        (where / f"{name}.svg").write_text(svg(graph, name), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
