"""The ground truth of a batch, padded, as training sees it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Targets(NamedTuple):
    """Ground truth of a batch, padded to M rows an image; which rows are real is said, never guessed.

    boxes: [B, M, 4] xyxy input pixels; labels: [B, M] int64 in 0..K-1; valid: [B, M] bool;
    crowd: [B, M] bool (a region of many objects: never matched); masks: [B, M, H, W] uint8 or None.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    crowd: Tensor
    masks: Tensor | None = None
