"""Heads refuse numbers and words that leave no detection or no network; also where no Part checks their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from torso.heads.centernet_points import CenterNetPoints
from torso.heads.dense import Dense
from torso.heads.faster_rcnn import FasterRCNN
from torso.heads.grid import Grid
from torso.heads.rpn import RPN
from torso.types import FeatureSpec

SPECS = [FeatureSpec(16, (s, s)) for s in (4, 8, 16, 32, 64)]


@pytest.mark.parametrize(
    ("head", "arguments", "said"),
    [
        (Dense, {"score_threshold": 2.0}, "score_threshold.*2.0 came"),
        (Dense, {"score_threshold": -1.0}, "score_threshold"),
        (Dense, {"score_threshold": 1.0}, "score_threshold"),
        (Dense, {"box_channels": 0}, "channels >= 1"),
        (Dense, {"scores": "softmx"}, "'softmx'.*sigmoid, softmax"),
        (Dense, {"quality": "bx"}, "'bx'.*none, cls, box, own"),
        (Dense, {"fusion": "sum"}, "'sum'.*product, sqrt"),
        (Dense, {"norm": "ln"}, "'ln'.*none, bn"),
        (Dense, {"activation": "tanh"}, "'tanh'.*none, relu"),
        (Dense, {"out_kernel": 2}, "out_kernel=2.*1, 3"),
        (RPN, {"score_threshold": 2.0}, "RPN.*score_threshold"),
        (FasterRCNN, {"channels": 0}, "channels must be at least 1; 0 came"),
        (FasterRCNN, {"pre_nms_top": 0}, "pre_nms_top"),
        (FasterRCNN, {"canonical_stride": 0}, "canonical_stride"),
        (FasterRCNN, {"canonical_side": 0.0}, "canonical_side"),
        (FasterRCNN, {"proposal_iou": 1.5}, "proposal_iou"),
        (FasterRCNN, {"proposal_iou": -1.0}, "proposal_iou"),
        (FasterRCNN, {"sampling": -1}, "sampling"),
        (FasterRCNN, {"min_size": -1.0}, "min_size"),
        (FasterRCNN, {"proposal_min_size": -1.0}, "proposal_min_size"),
        (FasterRCNN, {"score_threshold": 2.0}, "score_threshold"),
        (CenterNetPoints, {"prior_probability": 0.0}, "prior_probability"),
        (CenterNetPoints, {"prior_probability": 1.5}, "prior_probability"),
        (CenterNetPoints, {"top": 0}, "top"),
        (CenterNetPoints, {"channels": 0}, "channels"),
        (CenterNetPoints, {"activation": "tanh"}, "'tanh'.*none, relu"),
        (CenterNetPoints, {"score_threshold": 2.0}, "score_threshold"),
        (Grid, {"score_threshold": -0.5}, "score_threshold"),
        (Grid, {"norm": "ln"}, "'ln'.*none, bn"),
    ],
)
def test_refused(head: Callable[..., object], arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        head(SPECS, num_classes=2, finest=8, **arguments)
