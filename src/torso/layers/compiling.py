"""How the project calls torch.compile: one graph, static shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


def compiled(function: Callable[..., Result], *, graphs: bool = False) -> Callable[..., Result]:
    """`function` as one compiled graph, a graph a shape; a break in it is an error, not a slow path.

    graphs: replay it as CUDA graphs, forward and backward: fewer gaps between kernels, static memory.
    """
    if not graphs:
        return torch.compile(function, fullgraph=True, dynamic=False)
    return torch.compile(function, fullgraph=True, dynamic=False, options={"triton.cudagraphs": True})


def _is_exporting() -> bool:
    return torch.compiler.is_exporting()


# torch.compile takes torch.compiler.is_exporting() for true in what it traces; asked as a constant it is told the truth
is_exporting: Callable[[], bool] = torch.compiler.assume_constant_result(_is_exporting)  # type: ignore[no-untyped-call]
