"""How much two candidates cover each other: what suppression compares, and where another measure goes in.

A kind of box overlap is measured inside suppression's kernels. Anything else (masks, rotated boxes) is a subclass of
Overlap: `NMS(overlap=MaskOverlap(masks))` works over matrices in plain torch, in every suppression that takes one.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from torso.bounds import Positive
from torso.geometry.boxes import overlap_matrix
from torso.plain_values import Checked
from torso.types import Candidates

PairOverlap = Literal["iou", "giou", "diou"]
"""The overlaps that suppression can measure; ciou compares shapes, which says nothing of two boxes on one object."""


class Overlap(Checked):
    """Measured between candidates, [B, N, ...] and [B, M, ...] to [B, N, M] float32: 1 for the same object, <= 0 apart.

    Rows tell what they are by `boxes` and by `index`, the row of the raw prediction (-1 in an empty row), by which a
    subclass finds their masks, angles or keypoints. It must not look at scores, and runs without a synchronisation
    where suppression is to.
    """

    def __call__(self, a: Candidates, b: Candidates) -> Tensor:
        raise NotImplementedError


class BoxOverlap(Overlap):
    """Of boxes: iou, giou or diou; beta is the exponent of diou's distance term."""

    def __init__(self, *, kind: PairOverlap = "iou", beta: Positive = 1.0) -> None:
        self.kind, self.beta = kind, beta

    def __call__(self, a: Candidates, b: Candidates) -> Tensor:
        return overlap_matrix(a.boxes.float(), b.boxes.float(), self.kind, beta=self.beta)


def check_overlap(kind: str, threshold: float) -> None:
    """ValueError unless the threshold lies within the overlap's range."""
    lowest = 0.0 if kind == "iou" else -1.0
    if not lowest <= threshold <= 1.0:
        raise ValueError(
            f"iou_threshold={threshold} lies outside {lowest:g}..1, the range of {kind}; give a fraction such as 0.5"
        )
