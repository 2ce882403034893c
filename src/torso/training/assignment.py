"""What an assigner says of a batch: which prior learns which target."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Assignment(NamedTuple):
    """An assigner's answer: which ground truth each prior learns.

    target: [B, N] int64, the row of Targets, -1 background, -2 ignored;
    quality: [B, N] float32 soft target in 0..1 (centerness, IoU, alignment) or None.
    """

    target: Tensor
    quality: Tensor | None = None


class Pairs(NamedTuple):
    """Which prior learns which ground truth, where one prior may answer for several: P pairs an image, P fixed.

    prior: [B, P] int64, a row of the raw prediction; target: [B, P] int64, a row of Targets;
    weight: [B, P] float32, 0 where the pair does not count (its two numbers are then only safe to gather with).
    """

    prior: Tensor
    target: Tensor
    weight: Tensor


class HeatmapTargets(NamedTuple):
    """What the keypoint family learns: heatmap [B, N, K] float32 in 0..1, and the places that learn boxes."""

    heatmap: Tensor
    pairs: Pairs


BACKGROUND = -1
IGNORED = -2
