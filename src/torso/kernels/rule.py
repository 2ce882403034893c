"""An overlap held against a threshold: the one question that every suppression asks of two candidates."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from torso.geometry.overlaps import BoxOverlap, Overlap, PairOverlap, check_overlap

DecayMethod = Literal["linear", "gaussian"]


class Rule(NamedTuple):
    """When a box falls: its overlap with a better one is above the threshold (inclusive: equal to it or above).

    Overlaps are float32 and so is the threshold when the two meet: an overlap of 3/10 equals a threshold of 0.3.
    beta: the exponent of diou's distance term.
    """

    overlap: PairOverlap
    threshold: float
    inclusive: bool
    beta: float = 1.0


class Decay(NamedTuple):
    """How an overlap lowers a score: times 1 - overlap where the rule holds (linear), exp(-overlap^2 / sigma)."""

    method: DecayMethod
    sigma: float
    min_score: float


class Comparison(NamedTuple):
    """An overlap and the threshold it is held against: above it (inclusive: as much as it or above)."""

    overlap: Overlap
    threshold: float
    inclusive: bool

    @property
    def rule(self) -> Rule | None:
        """For the kernels; None where the overlap is another than theirs, be it a subclass of it."""
        if type(self.overlap) is not BoxOverlap:
            return None
        return Rule(self.overlap.kind, self.threshold, self.inclusive, self.overlap.beta)

    def holds(self, overlaps: Tensor) -> Tensor:
        """Where overlaps, of any shape, meet the threshold."""
        return overlaps >= self.threshold if self.inclusive else overlaps > self.threshold


def overlap_of(choice: PairOverlap | Overlap) -> Overlap:
    """The overlap of that name, or the one given; ValueError for an unknown name."""
    return choice if isinstance(choice, Overlap) else BoxOverlap(kind=choice)


def comparison(choice: PairOverlap | Overlap, threshold: float, *, inclusive: bool) -> Comparison:
    """The comparison that a suppression makes; ValueError for a threshold outside the overlap's range."""
    overlap = overlap_of(choice)
    check_overlap(overlap.kind if isinstance(overlap, BoxOverlap) else "giou", threshold)
    return Comparison(overlap, threshold, inclusive)


def check_count(name: str, value: int | None) -> None:
    """ValueError for a limit under 1; None means no limit."""
    if value is not None and value < 1:
        raise ValueError(f"{name}={value} leaves no row; give a whole number of 1 or more")
