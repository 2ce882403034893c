"""The contract of a criterion: model, images and targets in, sums of terms out, each with what it is divided by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from torso.errors import PartError, Remedy
from torso.folders import find, names
from torso.heads._base import Head
from torso.plain_values import Checked
from torso.types import Images


class TermSum(NamedTuple):
    """total: scalar sum over the (micro-)batch, weight included; count: scalar that it is divided by.

    They stay apart because the count of the effective batch is known only when all micro-batches and ranks have
    counted: the mean of S_i / N_i is not sum S_i / sum N_i.
    """

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody calls on a sum


Terms = dict[str, TermSum]

TERM_SLOTS: Mapping[str, str] = MappingProxyType(
    {"assigner": "assigner", "cls_loss": "cls.loss", "box_loss": "box.loss", "sampler": "sampler"}
)
"""The slots of a criterion with an assigner, a sampler and the terms `cls` and `box`."""


class Criterion(Checked, nn.Module):
    """Calls the model's public stages and compares them with the targets; the model itself never sees a target.

    reads: the head's raw predictions that it compares, a class of torso.types.
    slots: the parts inside it that are swapped by name, {slot: path of the argument}; a criterion that says
        {"box_loss": "box.loss"} takes --box-loss. fixed: why there is none of the other slots to swap.
    wants: what the part of a slot is here, in words that refuse another kind.
    old_arguments: {argument of an earlier version: path of today's}, which files may still hold.
    counts_need_sizes: whether `counts` reads sizes_hw, which only predictions that have priors can say.
    can_compile: whether torch.compile can take it whole: nothing of it runs on the host.
    """

    reads: ClassVar[type] = object
    slots: ClassVar[Mapping[str, str]] = MappingProxyType({})
    fixed: ClassVar[Mapping[str, str]] = MappingProxyType({})
    wants: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "assigner": "a rule that says which target each prior learns",
            "cls_loss": "a loss of class scores",
            "box_loss": "a loss of boxes",
            "sampler": "a rule that draws among positives and background",
        }
    )
    old_arguments: ClassVar[Mapping[str, str]] = MappingProxyType({})
    counts_need_sizes: ClassVar[bool] = False
    can_compile: ClassVar[bool] = True

    def forward(self, model: Any, images: Images, targets: Any) -> Terms:
        raise NotImplementedError

    @property
    def counts_need_predictions(self) -> bool:
        """Whether a term's count depends on what the network predicts; where it does not, `counts` gives it for less
        than a pass of the network.
        """
        return True

    def counts(
        self, model: Any, images: Images, targets: Any, sizes_hw: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        """The counts of forward's terms, in its order, without running the network.

        sizes_hw: (h, w) of each level's map that the head predicts on. Only where counts_need_predictions is False.
        """
        raise NotImplementedError(f"{type(self).__name__} counts what the network predicts")

    def check(self, model: Any) -> None:
        """Raise ValueError, with the reason and the remedy, where this criterion cannot train this model.

        Called where model and criterion meet, never in a step; it reads shapes and settings only, so the model may lie
        on the meta device. A criterion with more to ask extends it.
        """
        if self.reads is object:
            return
        head = model.head
        if not issubclass(head.predicts, self.reads):
            raise PartError(
                f"{type(self).__name__} compares {self.reads.__name__} with the targets, but {type(head).__name__} "
                f"gives {head.predicts.__name__}",
                remedies=_other_criteria(head),
            )


def _other_criteria(head: Head) -> list[Remedy]:
    """The criteria that read what this head predicts."""
    known = {name: cast(type[Criterion], find(name, "criteria")) for name in names("criteria")}
    reading: list[Remedy] = [{"criterion": name} for name, c in known.items() if issubclass(head.predicts, c.reads)]
    return reading or ["choose another head"]


def loss_of(terms: Terms, counts: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """The number to descend, and each term's share of it. counts: of the effective batch, in place of the terms' own.

    A count below 1 (no positives, a sum of soft targets near 0) divides by 1, so an empty batch gives 0, not NaN.
    """
    shares = {k: t.total / (counts[k] if counts else t.count).clamp(min=1.0) for k, t in terms.items()}
    return torch.stack(list(shares.values())).sum(), shares
