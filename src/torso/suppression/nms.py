"""Non-maximum suppression: keep the best box, drop what overlaps it too much, repeat; images and classes at once."""

from __future__ import annotations

from torso.bounds import BelowOne, Count
from torso.geometry.overlaps import Overlap, PairOverlap
from torso.kernels.keep import keep_rows
from torso.kernels.rule import comparison
from torso.suppression._base import Limits, Suppression
from torso.types import Candidates


class NMS(Suppression):
    """Greedy suppression; a call gives max_detections rows an image, best first, the rest empty.

    iou_threshold: a box falls when a better kept one overlaps it by more (inclusive: by as much or more), 0..1.
    overlap: "iou", "giou", "diou", or an Overlap. The limits are those of Limits; max_per_class looks at all the
    survivors. Scores are not changed; equal scores rank by row.
    """

    def __init__(
        self,
        *,
        iou_threshold: float = 0.5,
        inclusive: bool = False,
        overlap: PairOverlap | Overlap = "iou",
        class_agnostic: bool = False,
        max_detections: Count = 100,
        max_per_class: Count | None = None,
        pre_nms_top: Count | None = None,
        pre_nms_top_per_class: Count | None = None,
        score_threshold: BelowOne = 0.0,
    ) -> None:
        super().__init__(
            Limits(max_detections, max_per_class, pre_nms_top, pre_nms_top_per_class, score_threshold, class_agnostic)
        )
        self.test = comparison(overlap, iou_threshold, inclusive=inclusive)

    def __call__(self, candidates: Candidates) -> Candidates:
        """Candidates [B, T, ...] in any order to [B, max_detections, ...], best first, float32."""
        ranked = self.ranked(candidates)
        limit = self.limits.max_detections if self.limits.max_per_class is None else None
        return self.best(ranked, keep_rows(ranked, self.groups(ranked), self.test, limit))
