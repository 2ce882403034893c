"""RoIAlign's CUDA kernels as an operator that autograd and torch.compile know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("torso::roi_pool", mutates_args=(), device_types="cuda")
def roi_pool(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    levels: Tensor,
    size: int,
    sampling: int,
    aligned: bool,
) -> Tensor:
    """multi_level_roi_align for CUDA tensors; boxes float32."""
    from torso.kernels.roi_triton import pool_triton  # Triton is neither needed nor always there without CUDA

    return pool_triton(features, strides, boxes, levels, size, sampling, aligned)


@torch.library.custom_op("torso::roi_pool_backward", mutates_args=(), device_types="cuda")
def _roi_pool_backward(
    grad: Tensor,
    strides: Sequence[int],
    boxes: Tensor,
    levels: Tensor,
    heights: Sequence[int],
    widths: Sequence[int],
    size: int,
    sampling: int,
    aligned: bool,
) -> list[Tensor]:
    from torso.kernels.roi_triton import pool_backward_triton

    sizes = list(zip(heights, widths, strict=True))
    return pool_backward_triton(grad, strides, boxes, levels, sizes, size, sampling, aligned)


@roi_pool.register_fake
def _pooled_shape(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    levels: Tensor,
    size: int,
    sampling: int,
    aligned: bool,
) -> Tensor:
    return features[0].new_empty((*levels.shape, size, size, features[0].shape[1])).permute(0, 1, 4, 2, 3)


@_roi_pool_backward.register_fake
def _gradient_shapes(
    grad: Tensor,
    strides: Sequence[int],
    boxes: Tensor,
    levels: Tensor,
    heights: Sequence[int],
    widths: Sequence[int],
    size: int,
    sampling: int,
    aligned: bool,
) -> list[Tensor]:
    batch, _, channels = grad.shape[:3]
    sizes = zip(heights, widths, strict=True)
    return [grad.new_empty((batch, h, w, channels)).permute(0, 3, 1, 2) for h, w in sizes]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, ctx.strides, boxes, levels, ctx.size, ctx.sampling, ctx.aligned = inputs
    ctx.heights, ctx.widths = [f.shape[-2] for f in features], [f.shape[-1] for f in features]
    ctx.save_for_backward(boxes, levels)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    boxes, levels = ctx.saved_tensors
    gradients = _roi_pool_backward(
        grad, ctx.strides, boxes, levels, ctx.heights, ctx.widths, ctx.size, ctx.sampling, ctx.aligned
    )
    return gradients, None, None, None, None, None, None


roi_pool.register_autograd(_backward, setup_context=_remember)
