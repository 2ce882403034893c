"""The gates: CBAM and its halves against timm with copied weights; SAM and SE against their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.layers.cbam import CbamModule, SpatialAttn
from torch import nn

from torso.blocks._base import Block
from torso.blocks.cbam import CBAM
from torso.blocks.channel_attention import ChannelAttention
from torso.blocks.sam import SAM
from torso.blocks.se import SE
from torso.blocks.spatial_attention import SpatialAttention

NAMES = {
    "channel.squeeze.weight": "channel.fc1.weight",
    "channel.excite.weight": "channel.fc2.weight",
    "spatial.conv.conv.weight": "spatial.conv.conv.weight",
}


def stirred(module: nn.Module) -> nn.Module:
    """In double precision, its BatchNorms with weights and statistics of their own."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            for value in (m.running_mean, m.weight.data, m.bias.data):
                nn.init.normal_(value)
            nn.init.uniform_(m.running_var, 0.5, 2)
    return module.double()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("channels", [8, 48])  # below 16 one hidden channel is left; timm rounds, the paper cuts
def test_cbam_is_timms(channels: int, training: bool) -> None:
    torch.manual_seed(0)
    theirs = stirred(CbamModule(channels)).train(training)
    ours = CBAM(channels).double().train(training)
    weights = theirs.state_dict()
    renamed = {n: NAMES.get(n, n.replace("spatial.conv.norm", "spatial.conv.bn")) for n in ours.state_dict()}
    assert set(renamed.values()) == set(weights)
    ours.load_state_dict({n: weights[key] for n, key in renamed.items()})
    x = torch.randn(2, channels, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-9)


def test_spatial_attention_is_timms() -> None:
    torch.manual_seed(0)
    theirs, ours = stirred(SpatialAttn()).eval(), SpatialAttention(5).double().eval()
    ours.conv.conv.load_state_dict(theirs.conv.conv.state_dict())
    ours.conv.norm.load_state_dict(theirs.conv.bn.state_dict())
    x = torch.randn(2, 5, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-9)


def test_sam_is_the_gate_of_the_cfg() -> None:
    """Not a pooled gate: each value has its own, strictly between 0 and 1."""
    torch.manual_seed(0)
    sam = stirred(SAM(6)).eval()
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    conv, norm = sam.conv.conv, sam.conv.norm
    z = torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], x)
    z = (z - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    gate = 1 / (1 + (-(z * norm.weight[:, None, None] + norm.bias[:, None, None])).exp())
    torch.testing.assert_close(sam(x), x * gate)
    torch.testing.assert_close(sam(x), x * torch.sigmoid(norm(conv(x))))
    measured = sam(x) / x
    assert (measured > 0).all()
    assert (measured < 1).all()
    assert measured.std(dim=(2, 3)).min() > 0
    assert measured.std(dim=1).min() > 0
    assert conv.bias is None


def test_sam_without_its_convolution_halves_a_map() -> None:
    sam = SAM(4, norm="none")
    for p in sam.parameters():
        nn.init.zeros_(p)
    x = torch.randn(1, 4, 3, 5)
    assert torch.equal(sam(x), x / 2)


def test_se_is_its_formula() -> None:
    torch.manual_seed(0)
    se, x = SE(32, reduction=8), torch.randn(2, 32, 4, 6)
    w1, w2 = se.squeeze.weight[:, :, 0, 0], se.excite.weight[:, :, 0, 0]
    hidden = F.relu(x.mean((2, 3)) @ w1.T + se.squeeze.bias)
    gate = torch.sigmoid(hidden @ w2.T + se.excite.bias)
    torch.testing.assert_close(se(x), x * gate[:, :, None, None])
    assert w1.shape == (4, 32)


@pytest.mark.parametrize("block", [SAM, SE, CBAM, ChannelAttention, SpatialAttention])
def test_a_gate_keeps_signs_and_never_enlarges(block: type[Block]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 6, 5)
    y = block(16)(x)
    assert (y.sign() == x.sign()).all()
    assert (y.abs() < x.abs()).all()
    assert block.place == "all"


@pytest.mark.parametrize(
    ("block", "arguments", "message"),
    [
        (SE, {"reduction": 0}, "reduction: expected a whole number of at least 1, got 0"),
        (ChannelAttention, {"reduction": 0}, "reduction: expected a whole number of at least 1, got 0"),
        (SpatialAttention, {"kernel": 4}, "kernel: expected an odd whole number of at least 1, got 4"),
    ],
)
def test_refusals(block: type, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        block(8, **arguments)
