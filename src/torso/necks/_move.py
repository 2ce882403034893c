"""Moving a map to another level of the pyramid without weights: maximum pooling down, nearest neighbours up."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from torso.layers.pyramid import upsample_nearest

Padding = Literal["same", "symmetric"]


def move(
    x: Tensor, source: int, target: int, size_hw: tuple[int, int], *, overlap: int = 1, padding: Padding = "same"
) -> Tensor:
    """The map x of stride `source` on a level of stride `target`, whose maps have `size_hw`.

    Down by a ratio r it is one maximum over windows of r + overlap at stride r, cut where the level was rounded down.
    """
    if target == source:
        return x
    if target < source:
        return upsample_nearest(x, size_hw)
    ratio = target // source
    return max_pool(x, ratio, ratio + overlap, padding)[..., : size_hw[0], : size_hw[1]]


def size_of(x: Tensor) -> tuple[int, int]:
    """(height, width) of a map."""
    return x.shape[-2], x.shape[-1]


def max_pool(x: Tensor, stride: int, kernel: int, padding: Padding = "same") -> Tensor:
    """[B, C, h, w] -> [B, C, ceil(h / stride), ceil(w / stride)].

    kernel: stride or stride + 1. padding: "same" is TensorFlow's, whose odd row or column lies below or to the right;
    "symmetric" has as much on both sides (PyTorch's).
    """
    if padding == "symmetric":
        return F.max_pool2d(x, kernel, stride, (kernel - stride) * (kernel // 2), ceil_mode=kernel == stride)
    # padded by hand only in front: ceil_mode completes the last window, and no padded copy is written
    front = [max((-(-n // stride) - 1) * stride + kernel - n, 0) // 2 for n in x.shape[-2:]]
    return F.max_pool2d(x, kernel, stride, (front[0], front[1]), ceil_mode=True)
