"""The YOLO family's CSPDarknet in YOLOX's form beside mmdetection's."""

from __future__ import annotations

from mmdet_peer import assert_equal, copy_weights, randomise

# the stand-ins for compiled operations must be there before mmdet is imported
# isort: split
import pytest
import torch
from mmdet.models.backbones import CSPDarknet as PeerCSP
from torch import nn

from torso.backbones.csp import CSPDarknet
from torso.parts import Part, part

YOLOX: Part[CSPDarknet] = part(CSPDarknet, repeats=(3, 9, 9, 3), stem="focus", pooling="spp")


KEYS = [
    *((rf"^stage{i + 1}\.", f"stages.{i}.") for i in range(4)),
    (r"^(stages\.3\.1)\.conv1\.", r"\1.reduce."),
    (r"^(stages\.3\.1)\.conv2\.", r"\1.project."),
    (r"\.main_conv\.", ".main."),
    (r"\.short_conv\.", ".short."),
    (r"\.final_conv\.", ".final."),
    (r"\.bn\.", ".norm."),
]


def test_parameters() -> None:
    with torch.device("meta"):
        ours, peer = YOLOX.build(), PeerCSP()
    count = [sum(p.numel() for p in m.parameters()) for m in (ours, peer)]
    assert count[0] == count[1]
    assert round(count[0] / 1e6, 2) == 27.08
    assert {(m.eps, m.momentum) for m in ours.modules() if isinstance(m, nn.BatchNorm2d)} == {(1e-3, 0.03)}


@pytest.mark.parametrize("training", [False, True])
def test_features(training: bool) -> None:
    peer = PeerCSP(deepen_factor=0.67, widen_factor=0.25, out_indices=(1, 2, 3, 4)).double()
    ours = YOLOX.with_args(width=0.25, depth=0.67).build().double()
    randomise(peer)
    copy_weights(peer, ours, KEYS)
    peer.train(training)
    ours.train(training)
    x = torch.randn(2, 3, 160, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for i, (mine, theirs) in enumerate(zip(ours(x), peer(x), strict=True)):
        assert_equal(f"csp darknet, train={training}, level {i}", mine, theirs)
