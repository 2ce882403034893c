"""Non-maximum suppression: keep the best box, drop what overlaps it too much, repeat.

Batched over images and classes. With overlap="diou" it is DIoU-NMS (1911.08287), which spares neighbours whose
centres lie apart.
"""

from __future__ import annotations

from torso.geometry.boxes import OverlapKind
from torso.suppression._base import Suppression
from torso.suppression._batched import check_count, check_overlap, check_score, first_rows, rank, take
from torso.suppression._keep import batched_keep
from torso.types import Candidates


class NMS(Suppression):
    """Greedy suppression; a call gives max_detections rows an image, best first, the rest empty.

    iou_threshold: a box falls when a better kept one overlaps it by more (inclusive: by as much or more), 0..1.
    per_class: boxes compete only with boxes of their label. pre_nms_top: only the best so many rows take part.
    score_threshold: only rows above it take part; rows with a NaN score or a box that is not finite never do.
    overlap: "iou", "giou" or "diou". Scores are not changed; equal scores rank by row.
    """

    def __init__(
        self,
        *,
        iou_threshold: float = 0.5,
        per_class: bool = True,
        max_detections: int = 100,
        pre_nms_top: int | None = None,
        score_threshold: float = 0.0,
        overlap: OverlapKind = "iou",
        inclusive: bool = False,
    ) -> None:
        check_overlap(overlap, iou_threshold)
        check_count("max_detections", max_detections)
        check_count("pre_nms_top", pre_nms_top)
        check_score("score_threshold", score_threshold)
        self.iou_threshold = iou_threshold
        self.per_class = per_class
        self.max_detections = max_detections
        self.pre_nms_top = pre_nms_top
        self.score_threshold = score_threshold
        self.overlap = overlap
        self.inclusive = inclusive

    def __call__(self, candidates: Candidates) -> Candidates:
        """Candidates [B, T, ...] in any order to [B, max_detections, ...], best first, float32."""
        ranked = rank(candidates, score_threshold=self.score_threshold, top=self.pre_nms_top)
        keep = batched_keep(
            ranked.boxes,
            ranked.scores > 0,
            ranked.labels if self.per_class else None,
            iou_threshold=self.iou_threshold,
            inclusive=self.inclusive,
            max_keep=self.max_detections,
            overlap=self.overlap,
        )
        return take(ranked, first_rows(keep, self.max_detections))
