"""No suppression: the best rows as they are, for heads that answer once an object (CenterNet 1904.07850, DETR)."""

from __future__ import annotations

from torso.bounds import BelowOne, Count
from torso.suppression._base import Limits, Suppression
from torso.types import Candidates


class NoSuppression(Suppression):
    """The max_detections best rows above score_threshold, best first, the rest empty; nothing is compared.

    max_per_class: of them, at most so many of one label.
    """

    def __init__(
        self, *, max_detections: Count = 100, max_per_class: Count | None = None, score_threshold: BelowOne = 0.0
    ) -> None:
        super().__init__(Limits(max_detections, max_per_class, score_threshold=score_threshold))

    def __call__(self, candidates: Candidates) -> Candidates:
        """Candidates [B, T, ...] in any order to [B, max_detections, ...], best first, float32."""
        ranked = self.ranked(candidates)
        return self.best(ranked, ranked.scores > 0)
