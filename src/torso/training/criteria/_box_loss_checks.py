"""Whether a box loss reads the codes that a head says, and agrees with it on uncertainty: a branch or a loss alone."""

from __future__ import annotations

from torso.geometry.coders._base import Coder
from torso.geometry.coders.yolo import YOLOCoder
from torso.heads._base import Head
from torso.parts import PartError
from torso.training.losses._base import BoxLoss, UncertainBoxLoss
from torso.training.losses.yolo_box import YOLOBoxLoss


def check_box_loss(loss: BoxLoss, head: Head, coder: Coder) -> None:
    """Raise PartError where the loss cannot teach what this coder of the head's says."""
    if coder.bins:
        _check_distribution(loss, head)
    else:
        _check_uncertainty(loss, head)
    if isinstance(loss, YOLOBoxLoss) and not isinstance(coder, YOLOCoder):
        raise PartError(
            "YOLOBox reads the first two codes as a place within a cell, as the yolo coder says it, but "
            f"{type(head).__name__} has the coder {type(coder).__name__} here: choose --box-loss smooth_l1 or giou"
        )


def _check_distribution(loss: BoxLoss, head: Head) -> None:
    """Its codes are logits, which the dfl term teaches: neither a loss on codes nor a variance means anything there."""
    name, branch, sure = type(loss).__name__, head.has_uncertainty, isinstance(loss, UncertainBoxLoss)
    if not branch and not sure:
        if loss.space == "codes":
            raise PartError(
                f"{name} compares codes, but this head's coder predicts a distribution for each side, which the dfl "
                "term teaches: choose --box-loss giou (or another of the IoU family)"
            )
        return
    plain = {"--head.coder ltrb": True, "--head.uncertainty=true": not branch, "--box-loss kl": not sure}
    without = {"--head.uncertainty=false": branch, "--box-loss giou": loss.space == "codes"}
    first, second = (" ".join(flag for flag, needed in group.items() if needed) for group in (plain, without))
    raise PartError(
        f"{type(head).__name__} predicts a distribution for each side here, and how sure it is can be learnt of plain "
        f"codes only, by the loss kl: choose {first}, or {'without Softer-NMS ' if branch else ''}{second}"
    )


def _check_uncertainty(loss: BoxLoss, head: Head) -> None:
    """A branch that nothing trains, or a loss that lacks it."""
    name, who = type(loss).__name__, type(head).__name__
    if isinstance(loss, UncertainBoxLoss) and not head.has_uncertainty:
        raise PartError(
            f"{name} learns how sure a head is of its boxes, and {who} does not say it here: add "
            "--head.uncertainty=true, or choose --box-loss smooth_l1"
        )
    if head.has_uncertainty and not isinstance(loss, UncertainBoxLoss):
        raise PartError(
            f"{name} does not look at the uncertainty branch of {who}, which would never be trained: choose "
            "--box-loss kl, or without Softer-NMS set --head.uncertainty=false"
        )
