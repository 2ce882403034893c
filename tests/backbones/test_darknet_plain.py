"""Darknet-19 and YOLOv1's extraction network: published sizes, levels, refusals."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from torso.backbones.darknet19 import Darknet19
from torso.backbones.extraction import Extraction


@pytest.mark.parametrize(
    ("made", "convolutions", "channels", "published"),
    [(Darknet19, 18, (64, 128, 256, 512, 1024), 5.58), (Extraction, 20, (64, 192, 512, 1024, 1024), 8.52)],
)
def test_published_operations(made, convolutions, channels, published) -> None:
    """G operations at 224 px, two a multiply-add, with the classifier's 1x1 to 1000 classes on the last map: 5.58 in
    YOLOv2's paper, 8.52 at pjreddie.com/darknet/imagenet.
    """
    with torch.device("meta"), torch.no_grad():
        body = made().eval()
        with FlopCounterMode(display=False) as counter:
            maps = body(torch.zeros(1, 3, 224, 224))
    assert sum(isinstance(m, torch.nn.Conv2d) for m in body.modules()) == convolutions
    assert round((counter.get_total_flops() + 2 * 49 * 1024 * 1000) / 1e9, 2) == published
    assert tuple(s.channels for s in body.out_specs) == channels
    for m, s in zip(maps, body.out_specs, strict=True):
        assert m.shape == (1, s.channels, 224 // s.stride, 224 // s.stride)


@pytest.mark.parametrize("made", [Darknet19, Extraction])
def test_any_size_and_no_impossible_width(made) -> None:
    body = made(width=0.0625).eval()
    with torch.no_grad():
        for m, s in zip(body(torch.rand(1, 3, 70, 90)), body.out_specs, strict=True):
            assert m.shape == (1, s.channels, -(-70 // s.stride), -(-90 // s.stride))
    with pytest.raises(ValueError, match="width: expected a number above 0, got 0"):
        made(width=0)
