"""RFB and RFB-s: the counts of the published layers, what each branch sees, the residual form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from torso.blocks.rfb import RFB
from torso.blocks.rfb_s import RFBS

# (in, out, kernel height x width) of every convolution, branch by branch, then join and shortcut; RFBNet 300
RFB_FC7 = [  # 1024 -> 1024: an eighth is 128
    (1024, 256, 1), (256, 256, 9),
    (1024, 128, 1), (128, 256, 9), (256, 256, 9),
    (1024, 128, 1), (128, 192, 9), (192, 256, 9), (256, 256, 9),
    (768, 1024, 1), (1024, 1024, 1),
]  # fmt: skip
RFB_S_CONV4 = [  # 512 -> 512: a quarter is 128
    (512, 128, 1), (128, 128, 9),
    (512, 128, 1), (128, 128, 3), (128, 128, 9),
    (512, 128, 1), (128, 128, 3), (128, 128, 9),
    (512, 64, 1), (64, 96, 3), (96, 128, 3), (128, 128, 9),
    (512, 512, 1), (512, 512, 1),
]  # fmt: skip


@pytest.mark.parametrize(("block", "width", "convs"), [(RFB, 1024, RFB_FC7), (RFBS, 512, RFB_S_CONV4)])
def test_parameters_are_those_of_the_published_layers(block: type, width: int, convs: list[tuple[int, ...]]) -> None:
    with torch.device("meta"):
        module = block(width)
    got = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size[0] * m.kernel_size[1]) for m in got] == convs
    assert sum(p.numel() for p in module.parameters()) == sum(a * b * k + 2 * b for a, b, k in convs)
    linear = [*(branch[-1] for branch in module.branches), module.join, module.shortcut]
    assert all(isinstance(m.act, nn.Identity) for m in linear)
    assert {m.momentum for m in module.modules() if isinstance(m, nn.BatchNorm2d)} == {0.01}
    assert sum(isinstance(m, nn.ReLU) for m in module.modules()) == len(convs) - len(linear)


@pytest.mark.parametrize(("visual", "sides"), [(1, [3, 7, 11]), (2, [5, 9, 15])])
def test_rfb_branches_see_more_and_more(visual: int, sides: list[int]) -> None:
    module = RFB(16, visual=visual)
    assert [_box(branch) for branch in module.branches] == [(side, side) for side in sides]


def test_rfb_s_branches_see_one_side_at_a_time() -> None:
    assert [_box(branch) for branch in RFBS(16).branches] == [(3, 3), (9, 7), (7, 9), (13, 13)]


def _box(branch: nn.Module) -> tuple[int, int]:
    """Height and width of what one output value depends on, first row to last, with all weights positive."""
    for p in branch.parameters():
        nn.init.ones_(p)
    x = torch.ones(1, 16, 41, 41, requires_grad=True)
    branch.eval()(x)[0, :, 20, 20].sum().backward()
    assert x.grad is not None
    support = x.grad[0].abs().sum(0) > 0
    return _extent(support.any(1)), _extent(support.any(0))


def _extent(line: Tensor) -> int:
    where = line.nonzero().flatten()
    return int(where[-1] - where[0]) + 1


@pytest.mark.parametrize("block", [RFB, RFBS])
def test_without_scale_only_the_shortcut_is_left(block: type) -> None:
    torch.manual_seed(0)
    module, x = block(16, channels=6, scale=0.0).eval(), torch.randn(2, 16, 5, 7)
    torch.testing.assert_close(module(x), module.shortcut(x).relu())
    assert module(x).shape == (2, 6, 5, 7)
    full = block(16, scale=0.5).eval()
    seen = torch.cat([branch(x) for branch in full.branches], 1)
    torch.testing.assert_close(full(x), (0.5 * full.join(seen) + full.shortcut(x)).relu())


@pytest.mark.parametrize("block", [RFB, RFBS])
def test_too_few_channels_are_refused(block: type) -> None:
    with pytest.raises(ValueError, match="at least 16 incoming channels"):
        block(8)
