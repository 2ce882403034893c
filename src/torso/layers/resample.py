"""Bringing one map to another's size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample_nearest(x: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """[B, C, h, w] -> [B, C, *size_hw], nearest neighbour, for any ratio.

    Twice the size is written as repetition when compiled for CUDA: its backward is then a sum of four, where the
    general form scatters with atomics (1.1 of 62 ms a RetinaNet step on an H200).
    """
    h, w = x.shape[-2:]
    if not (x.is_cuda and torch.compiler.is_compiling() and tuple(size_hw) == (2 * h, 2 * w)):
        return F.interpolate(x, size=size_hw, mode="nearest")
    return repeat_twice(x)


def repeat_twice(x: Tensor) -> Tensor:
    """Every place four times: [B, C, h, w] -> [B, C, 2h, 2w], in channels_last order."""
    b, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(b, h, 2, w, 2, c)
    return rows.reshape(b, 2 * h, 2 * w, c).permute(0, 3, 1, 2)
