"""The contracts of losses: elementwise values; weighting and normalising are the criterion's."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from torso.plain_values import Checked


class ClassLoss(Checked):
    """logits [..., K or K + 1], labels [...] int64 (0..K-1, or `background`) and soft quality [...] -> [...] >= 0.

    softmax: whether the last column stands for background; then background labels are K, else -1.
    takes_quality: whether the soft quality is what a positive's class learns; a loss that does not take it learns 1.
    soft: whether it is made for soft targets, so that a positive should learn its box's IoU where nothing else is said.
    per_element: whether the sum is meant to be divided by the number of elements, and elements are weighed by all the
    others of the batch.
    """

    softmax: bool = False
    takes_quality: bool = False
    soft: bool = False
    per_element: bool = False

    def per_column(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        """[..., K], one value a class (or [..., 1]): who sums over everything at once saves a pass over the logits.

        On 16 x 201,600 x 90 logits the compiled sum over classes first takes 3.3 ms on an H200, its backward 0.9.
        """
        raise NotImplementedError

    def masked(self, logits: Tensor, labels: Tensor, quality: Tensor | None, used: Tensor) -> Tensor:
        """per_column, and 0 in rows that are not used [...]."""
        return torch.where(used[..., None], self.per_column(logits, labels, quality), 0.0)

    def __call__(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        return self.per_column(logits, labels, quality).sum(-1)


class BoxLoss(Checked):
    """(prediction, target) [..., 4] -> [...] >= 0, both in the loss's own space.

    space: "codes" compares what the head predicts with what it should have predicted, "boxes" compares decoded boxes.
    """

    space: Literal["codes", "boxes"]

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError


class UncertainBoxLoss(BoxLoss):
    """A box loss on codes that also learns how sure they are; for heads with an uncertainty branch.

    log_variance: [..., 4] of the codes. None: all are equally sure. Values may be negative.
    """

    space: Literal["codes", "boxes"] = "codes"

    def __call__(self, prediction: Tensor, target: Tensor, log_variance: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class DistributionLoss(Checked):
    """logits [..., 4, bins] over distances 0, 1 ... to the four sides, target [..., 4] in bins -> [...] >= 0."""

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError


class HeatmapLoss(Checked):
    """logits [..., K] and heatmap [..., K] in 0..1, exactly 1 where an object's centre lies -> [..., K] >= 0."""

    def __call__(self, logits: Tensor, heatmap: Tensor) -> Tensor:
        raise NotImplementedError
