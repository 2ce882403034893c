"""A word that names no form of a loss is refused, also where no Part checks it."""

from __future__ import annotations

import pytest

from torso.training.losses.iou import IoULoss
from torso.training.losses.yolo_box import YOLOBoxLoss


def test_refused() -> None:
    with pytest.raises(ValueError, match="form: expected one of 'log', 'linear', 'square', got 'cubic'"):
        IoULoss(form="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="center: expected one of 'entropy', 'squared', got 'middle'"):
        YOLOBoxLoss(center="middle")  # type: ignore[arg-type]
