"""Whether a box loss and a head agree on uncertainty: a branch that nothing trains, or a loss that lacks it."""

from __future__ import annotations

from torso.heads._base import Head
from torso.parts import PartError
from torso.training.losses._base import BoxLoss, UncertainBoxLoss


def check_uncertainty(loss: BoxLoss, head: Head) -> None:
    """Raise PartError where one of them has it and the other has not."""
    name, who = type(loss).__name__, type(head).__name__
    if isinstance(loss, UncertainBoxLoss) and not head.has_uncertainty:
        raise PartError(
            f"{name} learns how sure a head is of its boxes, and {who} does not say it here: add "
            "--head.uncertainty=true, or choose another --box-loss (smooth_l1)"
        )
    if head.has_uncertainty and not isinstance(loss, UncertainBoxLoss):
        raise PartError(
            f"{name} does not look at the uncertainty branch of {who}, which would never be trained: choose "
            "--box-loss kl, or set --head.uncertainty=false"
        )
