"""Absolute error on codes, summed over the four."""

from __future__ import annotations

from torso.training.losses.smooth_l1 import SmoothL1Loss


class L1Loss(SmoothL1Loss):
    """Smooth L1 without the smooth part."""

    def __init__(self) -> None:
        super().__init__(beta=0.0)
