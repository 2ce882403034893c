"""RoIAlign over a pyramid: a fixed grid of features for every box, from the level of its size (arXiv 1703.06870).

Letters: B images, R boxes an image, C channels, S bins a side, P samples a side of a bin. All shapes are fixed and
nothing is read by the host: each box is sampled on its own level only, without sorting boxes by level.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from torso.kernels.roi_op import roi_pool

_TRITON = find_spec("triton") is not None
# The reference implementations count a box as of the next level from 1e-6 octaves below the boundary on.
_ALMOST = 2.0**-1e-6


def roi_levels(boxes: Tensor, strides: Sequence[int], *, side: float = 224.0, stride: int = 16) -> Tensor:
    """Which level each box is pooled from: [..., 4] xyxy to [...] int64 positions in `strides` (fine to coarse).

    A box of area side^2 belongs to the level of `stride`; every doubling of its side is a level coarser (FPN, arXiv
    1612.03144, equation 1). Boxes beyond either end, empty ones too, go to the nearest level.
    """
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    length = (size[..., 0] * size[..., 1]).sqrt()
    level = torch.zeros_like(length, dtype=torch.int64)
    for coarser in strides[1:]:
        level = level + (length >= side * coarser / stride * _ALMOST)
    return level


def multi_level_roi_align(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    levels: Tensor,
    *,
    size: int,
    sampling: int = 2,
    aligned: bool = True,
) -> Tensor:
    """Bilinear averages of each bin of each box: [B, R, C, size, size] in the features' type.

    features: [B, C, h_i, w_i], one a level; boxes: [B, R, 4] xyxy input pixels, no gradient; levels: [B, R] int64.
    sampling: points a side of a bin; 0 takes one a cell that the bin spans, so large boxes cost more.
    aligned: pixel centres lie at half integers; False is the first implementations' half pixel shift, with sides of
    less than one cell counted as one. Interpolation is float32 (float64 for float64 features).

    On CUDA the gradient is summed in no fixed order, unless torch's deterministic algorithms are asked for.
    """
    boxes = boxes.detach()
    if _has_kernel(features[0]):
        pooled: Tensor = roi_pool(features, strides, boxes.float(), levels, size, sampling, aligned)
        return pooled
    if sampling == 0:
        return _by_torchvision(features, strides, boxes, levels, size, aligned)
    return _by_gathering(features, strides, boxes, levels, size, sampling, aligned)


def _has_kernel(feature: Tensor) -> bool:
    """Whether Triton's kernels serve; an exported program must run anywhere, so it has none."""
    if torch.compiler.is_exporting() or torch.are_deterministic_algorithms_enabled():
        return False
    return _TRITON and feature.is_cuda and feature.dtype != torch.float64


def _by_gathering(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    levels: Tensor,
    size: int,
    sampling: int,
    aligned: bool,
) -> Tensor:
    """Every bin is a weighted sum of rows of one table that holds all levels: one embedding bag, any device."""
    batch, count = levels.shape
    channels, dtype = features[0].shape[1], features[0].dtype
    table = torch.cat([f.permute(0, 2, 3, 1).reshape(-1, channels) for f in features])
    table = table if dtype == torch.float64 else table.float()
    heights, widths = [f.shape[-2] for f in features], [f.shape[-1] for f in features]
    starts = [0]
    for h, w in zip(heights[:-1], widths[:-1], strict=True):
        starts.append(starts[-1] + batch * h * w)
    stride, height, width = (_of_level(v, levels) for v in (list(strides), heights, widths))
    boxes = boxes.to(table.dtype) / stride[..., None]
    rows, row_weights = _axis_samples(boxes[..., 1], boxes[..., 3], height, size, sampling, aligned)
    columns, column_weights = _axis_samples(boxes[..., 0], boxes[..., 2], width, size, sampling, aligned)
    image = torch.arange(batch, device=levels.device)[:, None]
    first = _of_level(starts, levels) + image * height * width  # [B, R], row of the table of the map's first cell
    index = first[..., None, None] + rows * width[..., None, None]  # [B, R, S, 2P]
    index = index[:, :, :, None, :, None] + columns[:, :, None, :, None, :]  # [B, R, S, S, 2P, 2P]
    weights = row_weights[:, :, :, None, :, None] * column_weights[:, :, None, :, None, :]
    bag = (2 * sampling) ** 2
    pooled = F.embedding_bag(index.view(-1, bag), table, per_sample_weights=weights.view(-1, bag), mode="sum")
    return pooled.view(batch, count, size, size, channels).permute(0, 1, 4, 2, 3).to(dtype)


def _axis_samples(
    low: Tensor, high: Tensor, cells: Tensor, size: int, sampling: int, aligned: bool
) -> tuple[Tensor, Tensor]:
    """Cells and weights along one axis, [B, R, size, 2 * sampling] both, of extents low..high [B, R] in cells.

    A sample lies between two cells and weighs them by its distance; up to one cell outside the map it takes the
    border cell, further out nothing.
    """
    if aligned:
        low, high = low - 0.5, high - 0.5
    extent = high - low if aligned else (high - low).clamp(min=1)
    steps = torch.arange(size * sampling, device=low.device).view(size, sampling)
    at = low[..., None, None] + (steps + 0.5) * (extent / (size * sampling))[..., None, None]  # [B, R, S, P]
    last = (cells - 1)[..., None, None]
    inside = (at >= -1) & (at <= last + 1)
    at = torch.minimum(at.clamp(min=0), last.to(at.dtype))
    before = at.floor()
    part = at - before
    cell = before.long()
    share = inside.to(at.dtype) / sampling
    cells_of = torch.cat([cell, torch.minimum(cell + 1, last)], dim=-1)
    return cells_of, torch.cat([(1 - part) * share, part * share], dim=-1)


def _of_level(values: Sequence[int], levels: Tensor) -> Tensor:
    """values[levels], without a copy of Python numbers to the device."""
    out = torch.full_like(levels, values[0])
    for i, value in enumerate(values[1:], start=1):
        out = torch.where(levels == i, value, out)
    return out


def _by_torchvision(
    features: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, levels: Tensor, size: int, aligned: bool
) -> Tensor:
    """Adaptive sampling: torchvision's operator a level, in which a box of another level shrinks to nothing."""
    batch, count = levels.shape
    dtype = features[0].dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    image = torch.arange(batch, device=boxes.device, dtype=wide)[:, None, None].expand(-1, count, 1)
    pooled = None
    for i, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        here = (levels == i)[..., None]
        rois = torch.cat([image, torch.where(here, boxes.to(wide), 0)], dim=-1).flatten(0, 1)
        own = roi_align(feature.to(wide), rois, size, 1 / stride, 0, aligned).unflatten(0, (batch, count))
        own = torch.where(here[..., None, None], own, 0)
        pooled = own if pooled is None else pooled + own
    assert pooled is not None
    return pooled.to(dtype)
