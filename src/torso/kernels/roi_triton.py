"""RoIAlign on CUDA: a program a box and block of channels, launched a level; boxes of other levels end at once.

Neither sorting nor a mask a level is needed, and nothing is read by the host. Maps, results and gradients are
channels-last: 64 channels of a cell lie side by side, and their atomic additions are vectors of four.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from torso.kernels.overlap_triton import on_device

_CHANNELS = 64


def pool_triton(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    levels: Tensor,
    size: int,
    sampling: int,
    aligned: bool,
) -> Tensor:
    """The answer of multi_level_roi_align; boxes float32, features float32 or half, interpolation float32."""
    batch, count = levels.shape
    channels = features[0].shape[1]
    out = features[0].new_empty((batch, count, size, size, channels))
    boxes, levels = boxes.contiguous(), levels.contiguous()
    with on_device(boxes):
        for level, (feature, stride) in enumerate(zip(features, strides, strict=True)):
            maps = feature.contiguous(memory_format=torch.channels_last)
            _launch(_pool, maps, out, boxes, levels, level, stride, size, sampling, aligned)
    return out.permute(0, 1, 4, 2, 3)


def pool_backward_triton(
    grad: Tensor,
    strides: Sequence[int],
    boxes: Tensor,
    levels: Tensor,
    sizes_hw: Sequence[tuple[int, int]],
    size: int,
    sampling: int,
    aligned: bool,
) -> list[Tensor]:
    """Gradients of the features, channels-last, in grad's type; summed in float32, in no fixed order (atomics)."""
    batch, _, channels = grad.shape[:3]
    # float32 here, so that a thread reads the same four channels that it adds: else all pass through shared memory
    pooled = grad.new_empty((*grad.shape[:2], size, size, channels), dtype=torch.float32)
    pooled.copy_(grad.permute(0, 1, 3, 4, 2))
    boxes, levels, gradients = boxes.contiguous(), levels.contiguous(), []
    with on_device(boxes):
        for level, ((h, w), stride) in enumerate(zip(sizes_hw, strides, strict=True)):
            own = torch.zeros((batch, h, w, channels), dtype=torch.float32, device=grad.device).permute(0, 3, 1, 2)
            _launch(_spread, own, pooled, boxes, levels, level, stride, size, sampling, aligned)
            gradients.append(own.to(grad.dtype))
    return gradients


def _launch(
    kernel: triton.JITFunction[..., None],
    maps: Tensor,
    pooled: Tensor,
    boxes: Tensor,
    levels: Tensor,
    level: int,
    stride: int,
    size: int,
    sampling: int,
    aligned: bool,
) -> None:
    _, channels, height, width = maps.shape
    if levels.numel() == 0:
        return
    kernel[(levels.numel(), triton.cdiv(channels, _CHANNELS))](
        maps,
        pooled,
        boxes,
        levels,
        level,
        levels.shape[1],
        channels,
        height,
        width,
        1.0 / stride,
        SIZE=size,
        SAMPLING=sampling,
        ALIGNED=aligned,
        BINS=triton.next_power_of_2(size * size),
        CHANNELS=_CHANNELS,
        num_warps=8,
    )


# The interpreter cannot count a `for` to a number known only at run time, hence a `while` for adaptive sampling.


@triton.jit  # type: ignore[untyped-decorator]
def _pool(  # type: ignore[no-untyped-def]
    maps_ptr,
    pooled_ptr,
    boxes_ptr,
    levels_ptr,
    level,
    count,
    channels,
    height,
    width,
    scale,
    SIZE: tl.constexpr,
    SAMPLING: tl.constexpr,
    ALIGNED: tl.constexpr,
    BINS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """One box, all bins, CHANNELS channels: the average over the samples of each bin."""
    row = tl.program_id(0).to(tl.int64)
    if tl.load(levels_ptr + row) == level:
        bins = tl.arange(0, BINS)[:, None]
        channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
        box = boxes_ptr + row * 4
        left, step_x, many_x = _extent(tl.load(box), tl.load(box + 2), scale, SIZE, SAMPLING, ALIGNED)
        top, step_y, many_y = _extent(tl.load(box + 1), tl.load(box + 3), scale, SIZE, SAMPLING, ALIGNED)
        image = maps_ptr + (row // count) * height * width * channels + channel
        wanted = (bins < SIZE * SIZE) & (channel < channels)
        total = tl.zeros((BINS, CHANNELS), tl.float32)
        if SAMPLING > 0:
            for i in range(SAMPLING * SAMPLING):
                y = top + ((bins // SIZE) * SAMPLING + (i // SAMPLING + 0.5)) * step_y
                x = left + ((bins % SIZE) * SAMPLING + (i % SAMPLING + 0.5)) * step_x
                total += _read(image, y, x, height, width, channels, wanted)
        else:
            i = tl.full((), 0, tl.int32)
            while i < many_y * many_x:
                y = top + ((bins // SIZE) * many_y + (i // many_x + 0.5)) * step_y
                x = left + ((bins % SIZE) * many_x + (i % many_x + 0.5)) * step_x
                total += _read(image, y, x, height, width, channels, wanted)
                i += 1
        total = total / tl.maximum(many_y * many_x, 1)
        out = pooled_ptr + (row * SIZE * SIZE + bins) * channels + channel
        tl.store(out, total.to(pooled_ptr.dtype.element_ty), mask=wanted)


@triton.jit  # type: ignore[untyped-decorator]
def _spread(  # type: ignore[no-untyped-def]
    maps_ptr,
    pooled_ptr,
    boxes_ptr,
    levels_ptr,
    level,
    count,
    channels,
    height,
    width,
    scale,
    SIZE: tl.constexpr,
    SAMPLING: tl.constexpr,
    ALIGNED: tl.constexpr,
    BINS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """The transpose of _pool: the gradient of every bin, added to the cells that it was made of."""
    row = tl.program_id(0).to(tl.int64)
    if tl.load(levels_ptr + row) == level:
        bins = tl.arange(0, BINS)[:, None]
        channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
        box = boxes_ptr + row * 4
        left, step_x, many_x = _extent(tl.load(box), tl.load(box + 2), scale, SIZE, SAMPLING, ALIGNED)
        top, step_y, many_y = _extent(tl.load(box + 1), tl.load(box + 3), scale, SIZE, SAMPLING, ALIGNED)
        image = maps_ptr + (row // count) * height * width * channels + channel
        wanted = (bins < SIZE * SIZE) & (channel < channels)
        out = pooled_ptr + (row * SIZE * SIZE + bins) * channels + channel
        grad = tl.load(out, mask=wanted, other=0.0) / tl.maximum(many_y * many_x, 1)
        if SAMPLING > 0:
            for i in range(SAMPLING * SAMPLING):
                y = top + ((bins // SIZE) * SAMPLING + (i // SAMPLING + 0.5)) * step_y
                x = left + ((bins % SIZE) * SAMPLING + (i % SAMPLING + 0.5)) * step_x
                _add(image, grad, y, x, height, width, channels, wanted)
        else:
            i = tl.full((), 0, tl.int32)
            while i < many_y * many_x:
                y = top + ((bins // SIZE) * many_y + (i // many_x + 0.5)) * step_y
                x = left + ((bins % SIZE) * many_x + (i % many_x + 0.5)) * step_x
                _add(image, grad, y, x, height, width, channels, wanted)
                i += 1


@triton.jit  # type: ignore[untyped-decorator]
def _extent(low, high, scale, SIZE: tl.constexpr, SAMPLING: tl.constexpr, ALIGNED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Start of a box along one axis, in cells, the distance of its samples and their number a bin."""
    start, end = low * scale, high * scale
    if ALIGNED:
        start, end = start - 0.5, end - 0.5
    extent = end - start
    if not ALIGNED:
        extent = tl.maximum(extent, 1.0)
    samples = tl.full((), SAMPLING, tl.int32)
    if SAMPLING == 0:
        samples = tl.ceil(extent / SIZE).to(tl.int32)
    return start, extent / (SIZE * tl.maximum(samples, 1)), samples


@triton.jit
def _between(at, cells):  # type: ignore[no-untyped-def]
    """The two cells beside a sample, the share of the second, and whether the sample counts."""
    inside = (at >= -1.0) & (at <= cells)
    at = tl.minimum(tl.maximum(at, 0.0), cells - 1.0)
    first = at.to(tl.int32)
    return first, tl.minimum(first + 1, cells - 1), at - first.to(tl.float32), inside


@triton.jit
def _read(image, y, x, height, width, channels, wanted):  # type: ignore[no-untyped-def]
    """The map between the four cells around each (y, x)."""
    y, below, part_y, in_y = _between(y, height)
    x, beside, part_x, in_x = _between(x, width)
    mask = wanted & in_y & in_x
    upper = tl.load(image + (y * width + x) * channels, mask=mask, other=0.0).to(tl.float32)
    right = tl.load(image + (y * width + beside) * channels, mask=mask, other=0.0).to(tl.float32)
    lower = tl.load(image + (below * width + x) * channels, mask=mask, other=0.0).to(tl.float32)
    last = tl.load(image + (below * width + beside) * channels, mask=mask, other=0.0).to(tl.float32)
    above = upper * (1 - part_x) + right * part_x
    return above * (1 - part_y) + (lower * (1 - part_x) + last * part_x) * part_y


@triton.jit
def _add(image, grad, y, x, height, width, channels, wanted):  # type: ignore[no-untyped-def]
    """The transpose of _read."""
    y, below, part_y, in_y = _between(y, height)
    x, beside, part_x, in_x = _between(x, width)
    mask = wanted & in_y & in_x
    above, under = grad * (1 - part_y), grad * part_y
    tl.atomic_add(image + (y * width + x) * channels, above * (1 - part_x), mask=mask, sem="relaxed")
    tl.atomic_add(image + (y * width + beside) * channels, above * part_x, mask=mask, sem="relaxed")
    tl.atomic_add(image + (below * width + x) * channels, under * (1 - part_x), mask=mask, sem="relaxed")
    tl.atomic_add(image + (below * width + beside) * channels, under * part_x, mask=mask, sem="relaxed")
