"""The contracts of losses: elementwise values; weighting and normalising are the criterion's."""

from __future__ import annotations

from typing import Literal

from torch import Tensor


class ClassLoss:
    """logits [..., K or K + 1], labels [...] int64 (0..K-1, or `background`) and soft quality [...] -> [...] >= 0.

    softmax: whether the last column stands for background; then background labels are K, else -1.
    """

    softmax: bool = False

    def __call__(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class BoxLoss:
    """(prediction, target) [..., 4] -> [...] >= 0, both in the loss's own space.

    space: "codes" compares what the head says with what it should have said, "boxes" compares decoded boxes.
    """

    space: Literal["codes", "boxes"]

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError
