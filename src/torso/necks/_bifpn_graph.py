"""The graph of BiFPN: which maps meet at which node (arXiv 1911.09070, figure 2d)."""

from __future__ import annotations

from typing import NamedTuple


class Node(NamedTuple):
    """Where maps meet: the position of its level, and which maps: 0..L-1 are the incoming ones, then the nodes."""

    level: int
    inputs: tuple[int, ...]


def bifpn_graph(levels: int) -> list[Node]:
    """The paper's figure 2(d) for any number of levels; the last `levels` nodes are the outputs, fine to coarse.

    ValueError for a single level, where nothing meets.
    """
    if levels < 2:
        raise ValueError("BiFPN joins levels, and only one came; set finest or coarsest so that there are two or more")
    nodes: list[Node] = []
    seen = [[i] for i in range(levels)]  # the maps of each level so far

    def add(level: int, *inputs: int) -> None:
        nodes.append(Node(level, inputs))
        seen[level].append(levels + len(nodes) - 1)

    for level in range(levels - 2, -1, -1):
        add(level, seen[level][-1], seen[level + 1][-1])
    for level in range(1, levels):
        add(level, *seen[level], seen[level - 1][-1])
    return nodes
