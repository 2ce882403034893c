"""How much two candidates cover each other: what suppression compares, and where another measure goes in.

A kind of box overlap is measured inside the kernels. Anything else (masks, rotated boxes) is a subclass of Overlap:
`NMS(overlap=MaskOverlap(masks))` works in every suppression, over matrices in plain torch.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from torso.geometry.boxes import OverlapKind, overlap_matrix
from torso.suppression._batched import Rule, check_overlap
from torso.types import Candidates


class Overlap:
    """Measured between candidates, [B, N, ...] and [B, M, ...] to [B, N, M] float32: 1 for the same object, <= 0 apart.

    Rows tell what they are by `boxes` and by `index`, the row of the raw prediction (-1 in an empty row), by which a
    subclass finds their masks, angles or keypoints. It must not look at scores, and runs without a synchronisation
    where suppression is to.
    """

    def __call__(self, a: Candidates, b: Candidates) -> Tensor:
        raise NotImplementedError


class BoxOverlap(Overlap):
    """Of boxes: iou, giou or diou; beta is the exponent of diou's distance term."""

    def __init__(self, *, kind: OverlapKind = "iou", beta: float = 1.0) -> None:
        check_overlap(kind, 1.0)
        if not beta > 0:
            raise ValueError(f"beta={beta} must be above 0; DIoU's paper has 1, YOLOv4 0.6")
        self.kind, self.beta = kind, beta

    def __call__(self, a: Candidates, b: Candidates) -> Tensor:
        return overlap_matrix(a.boxes.float(), b.boxes.float(), self.kind, beta=self.beta)


class Comparison(NamedTuple):
    """An overlap and the threshold it is held against: above it (inclusive: as much as it or above)."""

    overlap: Overlap
    threshold: float
    inclusive: bool

    @property
    def rule(self) -> Rule | None:
        """For the kernels; None where the overlap is not of boxes."""
        if not isinstance(self.overlap, BoxOverlap):
            return None
        return Rule(self.overlap.kind, self.threshold, self.inclusive, self.overlap.beta)

    def holds(self, overlaps: Tensor) -> Tensor:
        """Where overlaps, of any shape, meet the threshold."""
        return overlaps >= self.threshold if self.inclusive else overlaps > self.threshold


def overlap_of(choice: OverlapKind | Overlap) -> Overlap:
    """The overlap of that name, or the one given; ValueError for an unknown name."""
    return choice if isinstance(choice, Overlap) else BoxOverlap(kind=choice)


def comparison(choice: OverlapKind | Overlap, threshold: float, *, inclusive: bool, beta: float = 1.0) -> Comparison:
    """The comparison that a suppression makes; ValueError for a threshold outside the overlap's range."""
    overlap = choice if isinstance(choice, Overlap) else BoxOverlap(kind=choice, beta=beta)
    check_overlap(overlap.kind if isinstance(overlap, BoxOverlap) else "giou", threshold)
    return Comparison(overlap, threshold, inclusive)
