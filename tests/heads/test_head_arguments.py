"""Heads refuse numbers and words that leave no detection or no network; also where no Part checks their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from torso.heads.centernet_points import CenterNetPointsHead
from torso.heads.dense import DenseHead
from torso.heads.faster_rcnn import FasterRCNNHead
from torso.heads.grid import GridHead
from torso.heads.rpn import RPNHead
from torso.types import FeatureSpec

SPECS = [FeatureSpec(16, (s, s)) for s in (4, 8, 16, 32, 64)]


@pytest.mark.parametrize(
    ("head", "arguments", "said"),
    [
        (DenseHead, {"score_threshold": 2.0}, "score_threshold.*2.0 came"),
        (DenseHead, {"score_threshold": -1.0}, "score_threshold"),
        (DenseHead, {"score_threshold": 1.0}, "score_threshold"),
        (DenseHead, {"box_channels": 0}, "channels >= 1"),
        (DenseHead, {"scores": "softmx"}, "'softmx'.*sigmoid, softmax"),
        (DenseHead, {"quality": "bx"}, "'bx'.*none, cls, box, own"),
        (DenseHead, {"fusion": "sum"}, "'sum'.*product, sqrt"),
        (DenseHead, {"norm": "ln"}, "'ln'.*none, bn"),
        (DenseHead, {"activation": "tanh"}, "'tanh'.*none, relu"),
        (DenseHead, {"out_kernel": 2}, "out_kernel=2.*1, 3"),
        (RPNHead, {"score_threshold": 2.0}, "RPN.*score_threshold"),
        (FasterRCNNHead, {"channels": 0}, "channels must be at least 1; 0 came"),
        (FasterRCNNHead, {"pre_nms_top": 0}, "pre_nms_top"),
        (FasterRCNNHead, {"canonical_stride": 0}, "canonical_stride"),
        (FasterRCNNHead, {"canonical_side": 0.0}, "canonical_side"),
        (FasterRCNNHead, {"proposal_iou": 1.5}, "proposal_iou"),
        (FasterRCNNHead, {"proposal_iou": -1.0}, "proposal_iou"),
        (FasterRCNNHead, {"sampling": -1}, "sampling"),
        (FasterRCNNHead, {"min_size": -1.0}, "min_size"),
        (FasterRCNNHead, {"proposal_min_size": -1.0}, "proposal_min_size"),
        (FasterRCNNHead, {"score_threshold": 2.0}, "score_threshold"),
        (CenterNetPointsHead, {"prior_probability": 0.0}, "prior_probability"),
        (CenterNetPointsHead, {"prior_probability": 1.5}, "prior_probability"),
        (CenterNetPointsHead, {"top": 0}, "top"),
        (CenterNetPointsHead, {"channels": 0}, "channels"),
        (CenterNetPointsHead, {"activation": "tanh"}, "'tanh'.*none, relu"),
        (CenterNetPointsHead, {"score_threshold": 2.0}, "score_threshold"),
        (GridHead, {"score_threshold": -0.5}, "score_threshold"),
        (GridHead, {"norm": "ln"}, "'ln'.*none, bn"),
    ],
)
def test_refused(head: Callable[..., object], arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        head(SPECS, num_classes=2, finest=8, **arguments)
