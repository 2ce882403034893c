"""SSD's VGG and its extra levels beside mmdetection's, at 300 and 512."""

from __future__ import annotations

from mmdet_peer import assert_equal, randomise

# the stand-ins for compiled operations must be there before mmdet is imported
# isort: split
import pytest
import torch
from mmdet.models.backbones import SSDVGG as PeerVGG
from mmdet.models.necks import SSDNeck
from torch import nn

from torso.backbones.ssd_vgg import SSDVGG
from torso.necks.ssd_extra import SSDExtra

SIZES = {
    300: ((512, 256, 256, 256), (2, 2, 1, 1), (1, 1, 0, 0), 3),
    512: ((512, 256, 256, 256, 256), (2, 2, 2, 2, 1), (1, 1, 1, 1, 1), 4),
}


@pytest.mark.parametrize("size", SIZES)
def test_features(size: int) -> None:
    widths, strides, paddings, kernel = SIZES[size]
    body = PeerVGG(16, with_last_pool=False, ceil_mode=True, out_indices=(3, 4), out_feature_indices=(22, 34))
    body.eval()  # returns nothing there
    neck = SSDNeck((512, 1024), (512, 1024, *widths), strides, paddings, last_kernel_size=kernel).eval()
    nn.init.constant_(neck.l2_norm.weight, 20.0)
    randomise(body)
    randomise(neck, seed=1)
    ours = SSDVGG().eval()
    steps = tuple(32 * 2**i for i in range(len(widths)))
    extra = SSDExtra(
        ours.out_specs, widths=widths, strides=strides, paddings=paddings, last_kernel=kernel, steps=steps
    ).eval()
    mine = [m for m in (*ours.modules(), *extra.modules()) if isinstance(m, nn.Conv2d)]
    theirs = [m for m in (*body.modules(), *neck.modules()) if isinstance(m, nn.Conv2d)]
    for a, b in zip(mine, theirs, strict=True):
        a.load_state_dict(b.state_dict())
    ours.l2_norm.weight.data.copy_(neck.l2_norm.weight.data)
    assert sum(p.numel() for p in body.parameters()) == 20_483_904
    g = torch.Generator().manual_seed(2)
    for height, width in ((size, size), (size + 33, size + 21)):
        x = torch.randn(1, 3, height, width, generator=g)
        with torch.no_grad():
            for i, (a, b) in enumerate(zip(extra(ours(x)), neck(body(x)), strict=True)):
                assert_equal(f"ssd{size} at {height}x{width}, level {i}", a, b)
