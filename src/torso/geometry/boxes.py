"""Box formats and the IoU family (IoU; GIoU 1902.09630; DIoU and CIoU 1911.08287) as pure functions.

Boxes are xyxy unless a name says otherwise; leading dimensions broadcast; widths are x2 - x1, never + 1. A box of no
extent (x2 <= x1 or y2 <= y1) has area 0 and IoU 0 with everything, itself included. Values and gradients are finite
for all finite boxes of up to 1e9 pixels. float16 and bfloat16 are computed in float32, which is what is returned.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

OverlapKind = Literal["iou", "giou", "diou", "ciou"]
"""iou lies in 0..1, giou in -1..1, diou in -1..1, ciou a little below diou where the aspect ratios differ."""

# Areas (px^2) and sides (px) up to these count as none. Small enough to leave normalised boxes (sides of 1e-3)
# untouched, large enough that a quotient's gradient stays far from float32's overflow.
_MIN_AREA = 1e-9
_MIN_SIDE = 1e-6
# 0 / 0 of CIoU's weight between equal boxes; the published implementations add the same.
_CIOU_EPS = 1e-7


def area(boxes: Tensor) -> Tensor:
    """Area of [..., 4] xyxy boxes: [...], px^2; 0 where a side is not positive."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """[..., 4] corners (x1, y1, x2, y2) to centre and size (cx, cy, w, h); inverse of cxcywh_to_xyxy."""
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(top_left + bottom_right) / 2, bottom_right - top_left], dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """[..., 4] centre and size (cx, cy, w, h) to corners (x1, y1, x2, y2); inverse of xyxy_to_cxcywh."""
    centers, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centers - half, centers + half], dim=-1)


def clip_boxes(boxes: Tensor, size_hw: Tensor) -> Tensor:
    """Boxes moved into their picture: [..., T, 4] xyxy with [..., 2] (height, width) gives 0 <= x <= w, 0 <= y <= h."""
    size_wh = size_hw.to(boxes.dtype).flip(-1)
    return torch.minimum(boxes.clamp(min=0), torch.cat([size_wh, size_wh], dim=-1).unsqueeze(-2))


def iou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box of a with every box of b: [..., N, 4] and [..., M, 4] to [..., N, M] in 0..1."""
    return overlap_matrix(a, b, "iou")


def overlap_matrix(a: Tensor, b: Tensor, kind: OverlapKind) -> Tensor:
    """Overlap of every pair: [..., N, 4] and [..., M, 4] to [..., N, M]; see aligned_overlap."""
    return aligned_overlap(a.unsqueeze(-2), b.unsqueeze(-3), kind)


def aligned_overlap(a: Tensor, b: Tensor, kind: OverlapKind) -> Tensor:
    """Overlap of a[i] with b[i]: [..., 4] and [..., 4], broadcast, to [...].

    1 for equal boxes that have an extent, in every kind. The weight of CIoU's aspect term carries no gradient, as the
    paper has it. Raises ValueError for an unknown kind.
    """
    if kind not in get_args(OverlapKind):
        raise ValueError(f"overlap kind {kind!r} is unknown; choose one of {', '.join(get_args(OverlapKind))}")
    a, b = _at_least_float32(a), _at_least_float32(b)
    iou, union = _iou_and_union(a, b)
    if kind == "iou":
        return iou
    width, height = _enclosing_size(a, b)
    if kind == "giou":
        hull = width * height
        return iou - _ratio(hull - union, hull)
    diou = iou - _ratio(_center_distance(a, b), width**2 + height**2)
    return diou if kind == "diou" else diou - _aspect_penalty(a, b, iou)


def _at_least_float32(boxes: Tensor) -> Tensor:
    # float16 has 2 px between its neighbours at 2,048 and overflows at an area of 256 x 256
    return boxes.float() if boxes.dtype in (torch.float16, torch.bfloat16) else boxes


def _iou_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    ax1, ay1, ax2, ay2 = a.unbind(-1)
    bx1, by1, bx2, by2 = b.unbind(-1)
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    intersection = width * height
    union = area(a) + area(b) - intersection
    return _ratio(intersection, union), union


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    # Where nothing is left to divide by, the gradient is 0 as well, not a side over _MIN_AREA; NaN passes, to be seen.
    return torch.where(whole <= _MIN_AREA, 0.0, part / whole.clamp(min=_MIN_AREA))


def _enclosing_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the smallest box that holds both."""
    ax1, ay1, ax2, ay2 = a.unbind(-1)
    bx1, by1, bx2, by2 = b.unbind(-1)
    width = torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)
    height = torch.maximum(ay2, by2) - torch.minimum(ay1, by1)
    return width.clamp(min=0), height.clamp(min=0)


def _center_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the centres, px^2."""
    ax1, ay1, ax2, ay2 = a.unbind(-1)
    bx1, by1, bx2, by2 = b.unbind(-1)
    return ((ax1 + ax2 - bx1 - bx2) / 2) ** 2 + ((ay1 + ay2 - by1 - by2) / 2) ** 2


def _aspect_penalty(a: Tensor, b: Tensor, iou: Tensor) -> Tensor:
    """CIoU's alpha * v, where v compares the aspect ratios and alpha weighs it by how well the boxes fit already."""
    v = 4 / math.pi**2 * (_aspect_angle(a) - _aspect_angle(b)) ** 2
    alpha = (v / (1 - iou + v + _CIOU_EPS)).detach()
    return alpha * v


def _aspect_angle(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.atan((x2 - x1).clamp(min=_MIN_SIDE) / (y2 - y1).clamp(min=_MIN_SIDE))
