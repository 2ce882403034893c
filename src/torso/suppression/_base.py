"""The contract of suppression: candidates in, candidates out."""

from __future__ import annotations

from torso.types import Candidates


class Suppression:
    """[B, T] rows in any order -> [B, max_detections] rows, best first; empty rows have score 0. Float32 inside."""

    max_detections: int

    def __call__(self, candidates: Candidates) -> Candidates:
        raise NotImplementedError
