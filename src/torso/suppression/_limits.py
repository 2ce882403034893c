"""How many rows, and which, take part in a suppression and come out of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torso.suppression._batched import check_count, check_score

_COUNTS = ("max_detections", "max_per_class", "pre_nms_top", "pre_nms_top_per_class")


@dataclass(frozen=True)
class Limits:
    """Checked when made: ValueError for a count below 1 or a threshold outside 0..1. None is no limit.

    max_detections: rows an image that come out. max_per_class: of them, at most so many of one label.
    pre_nms_top: only the best so many rows take part. pre_nms_top_per_class: of each label (SSD has 400).
    score_threshold: only rows above it take part; rows with a score or a box that is not finite never do.
    class_agnostic: all boxes compete, in place of only those of one label; where a head keeps its levels apart
    (levels_apart), in either case only those of one level.
    """

    max_detections: int = 100
    max_per_class: int | None = None
    pre_nms_top: int | None = None
    pre_nms_top_per_class: int | None = None
    score_threshold: float = 0.0
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        for name in _COUNTS:
            check_count(name, getattr(self, name))
        check_score("score_threshold", self.score_threshold)

    def times(self, factor: int) -> Limits:
        """With room for the rows of so many pictures."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return replace(self, **{name: count * factor for name, count in counts.items() if count is not None})
