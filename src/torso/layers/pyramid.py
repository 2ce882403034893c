"""Maps of a pyramid: one brought to another's size, and all levels joined into one tensor."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torso.layers.compiling import is_exporting


def upsample_nearest(x: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """[B, C, h, w] -> [B, C, *size_hw], nearest neighbour, for any ratio.

    Whole multiples are written as repetition when compiled for CUDA: the backward is then a sum, where the general form
    scatters with atomics (1.1 of 62 ms a RetinaNet step on an H200).
    """
    if x.is_cuda and torch.compiler.is_compiling():  # asked first: the ratio of sizes would narrow an exported graph
        factors = whole_factors((x.shape[-2], x.shape[-1]), size_hw)
        if factors is not None:
            return repeat(x, *factors)
    return F.interpolate(x, size=size_hw, mode="nearest")


def whole_factors(from_hw: tuple[int, int], to_hw: tuple[int, int]) -> tuple[int, int] | None:
    """How often rows and columns are repeated to come from one (height, width) to another; None if not evenly."""
    (h, w), (height, width) = from_hw, to_hw
    return (height // h, width // w) if height % h == 0 and width % w == 0 else None


def repeat(x: Tensor, rows: int, columns: int) -> Tensor:
    """Every row and every column so many times: [B, C, h, w] -> [B, C, rows * h, columns * w], channels_last."""
    b, c, h, w = x.shape
    many = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(b, h, rows, w, columns, c)
    return many.reshape(b, rows * h, columns * w, c).permute(0, 3, 1, 2)


def join_levels(levels: list[Tensor]) -> Tensor:
    """[B, n_i, V] of each level -> [B, sum n_i, V].

    Compiled for CUDA it is one operator with plain copies both ways. The compiler's own join asks of every element
    which level it is in (2.3 ms for RetinaNet's logits where copies take 0.5), and it hands the gradients back in
    slices that each convolution must copy again (H200, 800x1344, batch 16).
    """
    if levels[0].is_cuda and torch.compiler.is_compiling() and not is_exporting():
        joined: Tensor = _join(levels)
        return joined
    return torch.cat(levels, dim=1)


@torch.library.custom_op("torso::join_levels", mutates_args=())
def _join(levels: list[Tensor]) -> Tensor:
    return torch.cat(levels, dim=1)


@_join.register_fake
def _(levels: list[Tensor]) -> Tensor:
    b, _, values = levels[0].shape
    return levels[0].new_empty(b, sum(x.shape[1] for x in levels), values)


@torch.library.custom_op("torso::split_levels", mutates_args=())
def _split(joined: Tensor, sizes: list[int]) -> list[Tensor]:
    return [x.clone(memory_format=torch.contiguous_format) for x in torch.split(joined, sizes, dim=1)]


@_split.register_fake
def _(joined: Tensor, sizes: list[int]) -> list[Tensor]:
    return [joined.new_empty(joined.shape[0], n, joined.shape[2]) for n in sizes]


def _remember(ctx: Any, inputs: tuple[list[Tensor]], output: Tensor) -> None:
    ctx.sizes = [x.shape[1] for x in inputs[0]]


def _backward(ctx: Any, gradient: Tensor) -> list[Tensor]:
    parts: list[Tensor] = _split(gradient, ctx.sizes)
    return parts


_join.register_autograd(_backward, setup_context=_remember)
