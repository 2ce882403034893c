"""The words that arguments of the dense criterion take; the criterion says what each means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torso.geometry.boxes import OverlapKind

if TYPE_CHECKING:
    pass

Normaliser = Literal["positives", "image", "sampled", "quality", "targets", "batch"]
ClassRows = Literal["used", "positives"]
ClassTarget = Literal["one", "iou", "assigner"]
BoxWeighting = Literal["none", "quality", "score", "size"]
QualityRows = Literal["positives", "used"]
QualityTarget = Literal["assigner", "one", OverlapKind]
QualityLoss = Literal["bce", "squared"]
Crowd = Literal["background", "ignored"]
