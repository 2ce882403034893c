"""No suppression: the best rows as they are, for heads that answer once an object (CenterNet 1904.07850, DETR)."""

from __future__ import annotations

from torso.suppression._base import Suppression
from torso.suppression._batched import check_count, check_score, first_rows, rank, take
from torso.types import Candidates


class NoSuppression(Suppression):
    """The max_detections best rows above score_threshold, best first, the rest empty; nothing is compared."""

    def __init__(self, *, max_detections: int = 100, score_threshold: float = 0.0) -> None:
        check_count("max_detections", max_detections)
        check_score("score_threshold", score_threshold)
        self.max_detections = max_detections
        self.score_threshold = score_threshold

    def __call__(self, candidates: Candidates) -> Candidates:
        """Candidates [B, T, ...] in any order to [B, max_detections, ...], best first, float32."""
        ranked = rank(candidates, score_threshold=self.score_threshold, top=self.max_detections)
        return take(ranked, first_rows(ranked.scores > 0, self.max_detections))
