"""The distribution term: of heads whose coder predicts a distribution for each side of a box (GFL, 2006.04388)."""

from __future__ import annotations

from torch import Tensor

from torso.bounds import NotNegative
from torso.geometry.coders._base import Coder
from torso.heads._base import Head
from torso.parts import Part, part
from torso.training.assigners._base import Assigner
from torso.training.losses._base import DistributionLoss
from torso.training.losses.dfl import DFLLoss
from torso.training.terms._base import Learners, Normaliser, Rows, Term, weighed


class DistributionTerm(Term):
    """The loss of the distributions, over the positives, each weighed as its box is.

    Args:
        weight: factor of the term. normaliser: in place of the criterion's.
    """

    name = "dfl"
    weighed = True

    def __init__(
        self,
        assigner: Assigner,
        normaliser_of_all: Normaliser,
        *,
        loss: Part[DistributionLoss] = part(DFLLoss),
        weight: NotNegative = 0.25,
        normaliser: Normaliser | None = None,
    ) -> None:
        super().__init__(assigner, normaliser_of_all, weight=weight, own=normaliser)
        self.loss = loss.build()

    def learns(self, head: Head, coder: Coder) -> bool:
        return coder.bins > 0

    def sums(self, learners: Learners, rows: Rows) -> Tensor:
        logits = rows.codes.reshape(*rows.codes.shape[:-1], 4, -1)
        values = self.loss(logits, rows.coder.bin_targets(rows.target_boxes, rows.priors))
        return weighed(values, learners) * self.weight
