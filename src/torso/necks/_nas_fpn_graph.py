"""The graph of NAS-FPN: its seven merging cells and their two operations (arXiv 1904.07392, figure 6)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

Gate = Literal["max_from_coarser", "avg_from_finer"]


class Cell(NamedTuple):
    """A merging cell: the position of its level, whether it gates, its inputs, and a map added as it is.

    Maps 0-4 are the levels that come, 5-11 the cells in order. The extra summands are the paper's rule that an output
    takes up the maps of its level that nobody has used: P5 and P7.
    """

    level: int
    gated: bool
    inputs: tuple[int, int]
    also: int | None = None


CELLS = (
    Cell(1, True, (1, 3)),
    Cell(1, False, (1, 5)),
    Cell(0, False, (0, 6)),  # P3
    Cell(1, False, (6, 7)),  # P4
    Cell(2, True, (7, 8), also=2),  # P5
    Cell(4, True, (6, 9), also=4),  # P7
    Cell(3, True, (9, 10)),  # P6
)
OUTPUTS = (7, 8, 9, 11, 10)


def gated(finer: Tensor, coarser: Tensor, gate: Gate) -> Tensor:
    """Both maps [B, C, h, w] already of the cell's size; one is weighed by a pooled value a channel of the other."""
    if gate == "max_from_coarser":
        return coarser + finer * coarser.amax((2, 3), keepdim=True).sigmoid()
    return finer + coarser * finer.mean((2, 3), keepdim=True).sigmoid()
