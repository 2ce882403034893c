"""Box formats and the IoU family (IoU; GIoU 1902.09630; DIoU and CIoU 1911.08287) as pure functions.

Boxes are xyxy unless a name says otherwise; leading dimensions broadcast; widths are x2 - x1, never + 1. A box of no
extent (x2 <= x1 or y2 <= y1) has area 0 and IoU 0 with everything, itself included. Values and gradients are finite
for all finite boxes of up to 1e9 pixels. float16 and bfloat16 are computed in float32, which is what is returned.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

OverlapKind = Literal["iou", "giou", "diou", "ciou"]
"""iou lies in 0..1, giou in -1..1, diou in -1..1, ciou a little below diou where the aspect ratios differ."""

# Areas (px^2) and sides (px) below these count as this much where they divide. Small enough to leave normalised boxes
# (sides of 1e-3) untouched, large enough that a quotient's gradient stays far from float32's overflow.
MIN_AREA = 1e-9
_MIN_SIDE = 1e-6
# 0 / 0 of CIoU's weight between equal boxes; the published implementations add the same.
_CIOU_EPS = 1e-7


def area(boxes: Tensor) -> Tensor:
    """Area of [..., 4] xyxy boxes: [...], px^2; 0 where a side is not positive."""
    return _area(_sides(boxes))


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """[..., 4] corners (x1, y1, x2, y2) to centre and size (cx, cy, w, h); inverse of cxcywh_to_xyxy."""
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(top_left + bottom_right) / 2, bottom_right - top_left], dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """[..., 4] centre and size (cx, cy, w, h) to corners (x1, y1, x2, y2); inverse of xyxy_to_cxcywh."""
    centers, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centers - half, centers + half], dim=-1)


def clip_boxes(boxes: Tensor, size_hw: Tensor) -> Tensor:
    """Boxes moved into their image: [..., T, 4] xyxy with [..., 2] (height, width) gives 0 <= x <= w, 0 <= y <= h."""
    size_wh = size_hw.to(boxes.dtype).flip(-1)
    return torch.minimum(boxes.clamp(min=0), torch.cat([size_wh, size_wh], dim=-1).unsqueeze(-2))


def iou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box of a with every box of b: [..., N, 4] and [..., M, 4] to [..., N, M] in 0..1."""
    return overlap_matrix(a, b, "iou")


def overlap_matrix(a: Tensor, b: Tensor, kind: OverlapKind, *, beta: float = 1.0) -> Tensor:
    """Overlap of every pair: [..., N, 4] and [..., M, 4] to [..., N, M]; see aligned_overlap."""
    return aligned_overlap(a.unsqueeze(-2), b.unsqueeze(-3), kind, beta=beta)


def aligned_overlap(a: Tensor, b: Tensor, kind: OverlapKind, *, beta: float = 1.0) -> Tensor:
    """Overlap of a[i] with b[i]: [..., 4] and [..., 4], broadcast, to [...].

    1 for equal boxes that have an extent, in every kind. The weight of CIoU's aspect term carries no gradient, as the
    paper has it. beta: exponent of the distance term of diou and ciou (YOLOv4's suppression has 0.6); below 1 its
    gradient has no bound where centres meet. Raises ValueError for an unknown kind.
    """
    if kind not in get_args(OverlapKind):
        raise ValueError(f"overlap kind {kind!r} is unknown; choose one of {', '.join(get_args(OverlapKind))}")
    one, other = _sides(full_precision(a)), _sides(full_precision(b))
    intersection = _intersection(one, other)
    union = _area(one) + _area(other) - intersection
    iou = intersection / union.clamp(min=MIN_AREA)
    if kind == "iou":
        return iou
    width, height = _hull_size(one, other)
    if kind == "giou":
        hull = width * height
        return iou - (hull - union) / hull.clamp(min=MIN_AREA)
    distance = _center_distance(one, other) / (width**2 + height**2).clamp(min=MIN_AREA)
    diou = iou - (distance if beta == 1 else distance**beta)
    return diou if kind == "diou" else diou - _aspect_penalty(one, other, iou)


class _Sides(NamedTuple):
    x1: Tensor
    y1: Tensor
    x2: Tensor
    y2: Tensor


def _sides(boxes: Tensor) -> _Sides:
    # four contiguous tensors: pairs of strided columns cost the CPU five times as much
    return _Sides(*boxes.movedim(-1, 0).contiguous().unbind(0))


def full_precision(x: Tensor) -> Tensor:
    """float64 stays, everything narrower becomes float32: half precision cannot tell pixels apart in a large image.

    float16 has 2 px between its neighbours at 2,048 and overflows at an area of 256 x 256.
    """
    return x if x.dtype.itemsize == 8 else x.float()


# relu, not clamp(min=0): its gradient at 0 is 0, so that a box without extent never divides a side by MIN_AREA.
def _area(a: _Sides) -> Tensor:
    return (a.x2 - a.x1).relu() * (a.y2 - a.y1).relu()


def _intersection(a: _Sides, b: _Sides) -> Tensor:
    width = torch.minimum(a.x2, b.x2) - torch.maximum(a.x1, b.x1)
    height = torch.minimum(a.y2, b.y2) - torch.maximum(a.y1, b.y1)
    return width.relu() * height.relu()


def _hull_size(a: _Sides, b: _Sides) -> tuple[Tensor, Tensor]:
    """Width and height of the smallest box that holds both."""
    width = torch.maximum(a.x2, b.x2) - torch.minimum(a.x1, b.x1)
    height = torch.maximum(a.y2, b.y2) - torch.minimum(a.y1, b.y1)
    return width.relu(), height.relu()


def _center_distance(a: _Sides, b: _Sides) -> Tensor:
    """Squared distance of the centres, px^2."""
    return ((a.x1 + a.x2 - b.x1 - b.x2) / 2) ** 2 + ((a.y1 + a.y2 - b.y1 - b.y2) / 2) ** 2


def _aspect_penalty(a: _Sides, b: _Sides, iou: Tensor) -> Tensor:
    """CIoU's alpha * v, where v compares the aspect ratios and alpha weighs it by how well the boxes fit already."""
    v = 4 / math.pi**2 * (_aspect_angle(a) - _aspect_angle(b)) ** 2
    alpha = (v / (1 - iou + v + _CIOU_EPS)).detach()
    return alpha * v


def _aspect_angle(a: _Sides) -> Tensor:
    return torch.atan((a.x2 - a.x1).clamp(min=_MIN_SIDE) / (a.y2 - a.y1).clamp(min=_MIN_SIDE))
