"""How the project calls torch.compile: one graph, static shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def compiled(function: Callable[..., Result], *, graphs: bool = False) -> Callable[..., Result]:
    """`function` as one compiled graph, a graph a shape; a break in it is an error, not a slow path.

    graphs: replay it as CUDA graphs, forward and backward: fewer gaps between kernels, static memory. What a call
    gives, gradients too, is overwritten by the next.
    """
    if not graphs:
        return torch.compile(function, fullgraph=True, dynamic=False)
    replayed = torch.compile(function, fullgraph=True, dynamic=False, options={"triton.cudagraphs": True})

    def begin(*args: Any, **kwargs: Any) -> Result:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # the last call's may be lost now
        return replayed(*args, **kwargs)

    return begin


def _is_exporting() -> bool:
    return torch.compiler.is_exporting()


# torch.compile takes torch.compiler.is_exporting() for true in what it traces; asked as a constant it is told the truth
is_exporting: Callable[[], bool] = torch.compiler.assume_constant_result(_is_exporting)  # type: ignore[no-untyped-call]
