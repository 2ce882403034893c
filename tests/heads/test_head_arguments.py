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
        (
            DenseHead,
            {"score_threshold": 2.0},
            r"score_threshold: expected a number of at least 0 and below 1, got 2\.0",
        ),
        (DenseHead, {"score_threshold": -1.0}, "score_threshold"),
        (DenseHead, {"score_threshold": 1.0}, "score_threshold"),
        (DenseHead, {"box_channels": 0}, "box_channels: expected a whole number of at least 1 or none, got 0"),
        (DenseHead, {"scores": "softmx"}, "scores: expected one of 'sigmoid', 'softmax', got 'softmx'"),
        (DenseHead, {"quality": "bx"}, "quality: expected one of 'none', 'cls', 'box', 'own', got 'bx'"),
        (DenseHead, {"fusion": "sum"}, "fusion: expected one of 'product', 'sqrt', got 'sum'"),
        (DenseHead, {"norm": "ln"}, "norm: expected one of 'none', 'bn', 'bn_tf', 'bn_yolo', 'gn', got 'ln'"),
        (
            DenseHead,
            {"activation": "tanh"},
            "activation: expected one of 'none', 'relu', 'leaky_relu', 'silu', .*, got 'tanh'",
        ),
        (DenseHead, {"out_kernel": 2}, "out_kernel: expected one of 1, 3, got 2"),
        (RPNHead, {"score_threshold": 2.0}, "RPN.*score_threshold"),
        (FasterRCNNHead, {"channels": 0}, "channels: expected a whole number of at least 1, got 0"),
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
        (
            CenterNetPointsHead,
            {"activation": "tanh"},
            "activation: expected one of 'none', 'relu', 'leaky_relu', 'silu', .*, got 'tanh'",
        ),
        (CenterNetPointsHead, {"score_threshold": 2.0}, "score_threshold"),
        (GridHead, {"score_threshold": -0.5}, "score_threshold"),
        (GridHead, {"norm": "ln"}, "norm: expected one of 'none', 'bn', 'bn_tf', 'bn_yolo', 'gn', got 'ln'"),
    ],
)
def test_refused(head: Callable[..., object], arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        head(SPECS, num_classes=2, finest=8, **arguments)
