"""What a second stage says of the boxes it was given."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class SecondStage(NamedTuple):
    """logits [B, R, K + 1], background last; codes [B, R, K * 4 or 4]; log_variance like the codes, or None."""

    logits: Tensor
    codes: Tensor
    log_variance: Tensor | None = None
