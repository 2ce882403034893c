"""The contract of a sampler: turns rows that are not drawn into ignored ones."""

from __future__ import annotations

from torch import Tensor

from torso.plain_values import Checked
from torso.training.assignment import Assignment


class Sampler(Checked):
    """Draws with torch's generator, so a step's draws follow from the step's seed.

    fixed_count: whether how many positives and how much background it keeps follows from how many there are, whatever
    it draws. keeps_positives: whether all of these stay. needs_loss: whether it looks at `loss`, [B, N] float, what
    each prior costs as background now.
    """

    fixed_count: bool = False
    keeps_positives: bool = False
    needs_loss: bool = False

    def __call__(self, assignment: Assignment, loss: Tensor | None = None) -> Assignment:
        raise NotImplementedError
