"""What every implementation of suppression has to get right, as candidates by name."""

from __future__ import annotations

import torch

from torso.types import Candidates

from .reference import chain, random_candidates


def _of(boxes: list[list[float]], scores: list[float]) -> Candidates:
    rows = torch.arange(len(scores)).unsqueeze(0)
    return Candidates(torch.tensor([boxes]), torch.tensor([scores]), torch.zeros_like(rows), rows)


def cases() -> dict[str, Candidates]:
    """Small ones only: Triton's interpreter goes through them too."""
    far = random_candidates(3, 2, 70, 2)
    return {
        "random, three classes": random_candidates(0, 2, 90, 3),
        "random, one class": random_candidates(1, 1, 130, 1),
        "random, many classes": random_candidates(2, 2, 70, 60),
        "far from the origin": far._replace(boxes=far.boxes + 1e5),
        "a chain of 40": chain(40),
        "a chain over two blocks": chain(100),
        "the golden four": _of(
            [[0.0, 0, 100, 100], [10, 10, 110, 110], [0, 0, 50, 50], [200, 200, 300, 300]], [0.9, 0.8, 0.7, 0.6]
        ),
        "all the same box": _of([[5.0, 5, 15, 25]] * 70, [0.5] * 70),
        "one box": _of([[1.0, 2, 3, 4]], [0.5]),
        "nothing but empty rows": _of([[1.0, 2, 3, 4]] * 3, [0.0] * 3),
    }
