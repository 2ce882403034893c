"""Quality focal loss: focal loss against a soft target, the box's IoU (Li et al. 2020, GFL, arXiv 2006.04388)."""

from __future__ import annotations

import torch
from torch import Tensor

from torso.bounds import AtLeastOne
from torso.training.losses._base import ClassLoss
from torso.training.losses.bce import soft_targets


class QFLLoss(ClassLoss):
    """|y - p|^beta times the binary cross entropy of p against y, summed over classes; y is the quality on the target's
    class (1 where none is given) and 0 elsewhere.
    """

    takes_quality = True
    soft = True

    def __init__(self, *, beta: AtLeastOne = 2.0) -> None:
        self.beta = beta

    def per_column(self, logits: Tensor, labels: Tensor, quality: Tensor | None = None) -> Tensor:
        x, y = soft_targets(logits, labels, quality)
        entropy = x.clamp(min=0) - x * y + torch.log1p((-x.abs()).exp())
        return (x.sigmoid() - y).abs() ** self.beta * entropy
