"""The overlap of two boxes for Triton kernels: the arithmetic of geometry.boxes, step for step.

Kernels that use it are launched with enable_fp_fusion=False and divide by div_rn: with a fused multiply-add or the
fast division, a pair at the threshold would fall on the GPU and stand on the CPU.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from torso.geometry.boxes import MIN_AREA

_MIN_AREA = tl.constexpr(MIN_AREA)


def on_device(tensor: Tensor) -> AbstractContextManager[object]:
    """Launch on the tensor's GPU, not on the current one; nothing for a CPU tensor (Triton's interpreter)."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


@triton.jit  # type: ignore[untyped-decorator]
def overlap(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, KIND: tl.constexpr, BETA: tl.constexpr):  # type: ignore[no-untyped-def]
    """Overlap of boxes a (the suppressing one) and b, sides broadcast against each other; KIND iou, giou or diou.

    BETA: exponent of diou's distance; anything but 1 is a power, and equal to geometry.boxes' to rounding only.
    """
    width = tl.maximum(tl.minimum(ax2, bx2) - tl.maximum(ax1, bx1), 0.0)
    height = tl.maximum(tl.minimum(ay2, by2) - tl.maximum(ay1, by1), 0.0)
    intersection = width * height
    a_area = tl.maximum(ax2 - ax1, 0.0) * tl.maximum(ay2 - ay1, 0.0)
    b_area = tl.maximum(bx2 - bx1, 0.0) * tl.maximum(by2 - by1, 0.0)
    union = a_area + b_area - intersection
    measure = tl.div_rn(intersection, tl.maximum(union, _MIN_AREA))
    if KIND != "iou":
        hull_w = tl.maximum(tl.maximum(ax2, bx2) - tl.minimum(ax1, bx1), 0.0)
        hull_h = tl.maximum(tl.maximum(ay2, by2) - tl.minimum(ay1, by1), 0.0)
        if KIND == "giou":
            hull = hull_w * hull_h
            measure = measure - tl.div_rn(hull - union, tl.maximum(hull, _MIN_AREA))
        else:
            dx = (ax1 + ax2 - bx1 - bx2) * 0.5
            dy = (ay1 + ay2 - by1 - by2) * 0.5
            away = tl.div_rn(dx * dx + dy * dy, tl.maximum(hull_w * hull_w + hull_h * hull_h, _MIN_AREA))
            if BETA != 1.0:
                away = tl.exp2(BETA * tl.log2(away))
            measure = measure - away
    return measure
