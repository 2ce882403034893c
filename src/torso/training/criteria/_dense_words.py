"""The words that arguments of the dense criterion take; the criterion says what each means."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from torso.geometry.boxes import OverlapKind
from torso.plain_values import one_of

if TYPE_CHECKING:
    from torso.training.criteria.dense import DenseCriterion

Normaliser = Literal["positives", "image", "sampled", "quality", "targets", "batch"]
ClassRows = Literal["used", "positives"]
ClassTarget = Literal["one", "iou", "assigner"]
BoxWeighting = Literal["none", "quality", "score", "size"]
QualityRows = Literal["positives", "used"]
QualityTarget = Literal["assigner", "one", OverlapKind]
QualityLoss = Literal["bce", "squared"]
Crowd = Literal["background", "ignored"]

_KNOWN: Mapping[str, Any] = MappingProxyType(
    {
        "normaliser": Normaliser,
        "quality_normaliser": Normaliser,
        "cls_on": ClassRows,
        "cls_target": ClassTarget,
        "box_weighting": BoxWeighting,
        "quality_on": QualityRows,
        "quality_target": QualityTarget,
        "quality_loss": QualityLoss,
        "crowd": Crowd,
    }
)


def check_words(criterion: DenseCriterion) -> None:
    """Raise PartError for a word that means nothing, and would be taken for another."""
    for name, known in _KNOWN.items():
        one_of(f"{type(criterion).__name__}.{name}", getattr(criterion, name), known)
