"""CSP-PAN beside mmdetection's YOLOXPAFPN: the same maps from the same weights, eval and training."""

from __future__ import annotations

from mmdet_peer import assert_equal, copy_weights, randomise

# the stand-ins for compiled operations must be there before mmdet is imported
# isort: split
import pytest
import torch
from mmdet.models.necks import YOLOXPAFPN

from torso.necks.csp_pan import CSPPAN
from torso.types import FeatureSpec

CHANNELS = (16, 24, 40)
SPECS = [FeatureSpec(c, (8 << i, 8 << i)) for i, c in enumerate(CHANNELS)]
KEYS = [
    (r"^reduce_layers\.0\.", "reduce.1."),  # built from the coarsest level on there
    (r"^reduce_layers\.1\.", "reduce.0."),
    (r"^top_down_blocks\.0\.", "top_down.swap."),
    (r"^top_down_blocks\.1\.", "top_down.0."),
    (r"^top_down\.swap\.", "top_down.1."),
    (r"^downsamples\.", "down."),
    (r"^bottom_up_blocks\.", "bottom_up."),
    (r"^out_convs\.", "output."),
    (r"\.main_conv\.", ".main."),
    (r"\.short_conv\.", ".short."),
    (r"\.final_conv\.", ".final."),
    (r"\.bn\.", ".norm."),
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("depth", [1, 3])
def test_yolox_pafpn(depth: int, training: bool) -> None:
    peer = YOLOXPAFPN(list(CHANNELS), 32, num_csp_blocks=depth).double().train(training)
    ours = CSPPAN(SPECS, channels=32, depth=depth, coarsest=32).double().train(training)
    randomise(peer)
    copy_weights(peer, ours, KEYS)
    g = torch.Generator().manual_seed(3)
    x = [
        torch.randn(2, c, 96 // (2 << i), 64 // (2 << i), generator=g, dtype=torch.float64)
        for i, c in enumerate(CHANNELS)
    ]
    for i, (mine, theirs) in enumerate(zip(ours(x), peer(x), strict=True)):
        assert_equal(f"csp_pan depth {depth}, train={training}, level {i}", mine, theirs)
