"""FPN, PAFPN and CenterNet's neck beside mmdetection's, at odd sizes."""

from __future__ import annotations

from mmdet_peer import assert_equal, copy_weights, randomise

# the stand-ins for compiled operations must be there before mmdet is imported
# isort: split
import pytest
import torch
from mmdet.models.necks import FPN as PeerFPN
from mmdet.models.necks import PAFPN, CTResNetNeck
from torch import Tensor

from torso.necks.fpn import FPN
from torso.necks.pan import PAN
from torso.necks.upsample import Upsample
from torso.types import FeatureSpec

CHANNELS = (16, 24, 32, 40)
STRIDES = (4, 8, 16, 32)
SPECS = [FeatureSpec(c, (s, s)) for c, s in zip(CHANNELS, STRIDES, strict=True)]
SIZES = {"even": (128, 192), "odd": (109, 179)}
EXTRA = {"conv_c5": "on_input", "conv_p5": "on_output", "pool": False}


def features(size_hw: tuple[int, int]) -> list[Tensor]:
    g = torch.Generator().manual_seed(3)
    height, width = size_hw
    return [
        torch.randn(2, c, -(-height // s), -(-width // s), generator=g, dtype=torch.float64)
        for c, s in zip(CHANNELS, STRIDES, strict=True)
    ]


def keys(prefix: str, levels: int) -> list[tuple[str, str]]:
    """mmdetection numbers the extra convolutions after the output ones."""
    extra = [(rf"^fpn_convs\.{levels + i}\.conv\.", f"extra.convs.{i}.") for i in range(3)]
    return [
        *extra,
        (r"^lateral_convs\.", f"{prefix}lateral."),
        (r"^fpn_convs\.", f"{prefix}output."),
        (r"^downsample_convs\.", "paths.down."),
        (r"^pafpn_convs\.", "paths.output."),
        (r"\.bn\.", ".norm."),
    ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize("kind", ["fpn", "pan"])
def test_pyramids(kind: str, extra: str, size: str) -> None:
    start = 0 if extra == "pool" else 1
    arguments = {
        "in_channels": list(CHANNELS),
        "out_channels": 32,
        "num_outs": 5,
        "start_level": start,
        "add_extra_convs": EXTRA[extra],
        "relu_before_extra_convs": True,
    }
    ranges = {"channels": 32, "finest": STRIDES[start], "coarsest": STRIDES[start] * 16, "extra": extra}
    peer = (PeerFPN if kind == "fpn" else PAFPN)(**arguments).double()
    ours = (FPN if kind == "fpn" else PAN)(SPECS, **ranges).double()
    randomise(peer)
    copy_weights(peer, ours, keys("" if kind == "fpn" else "paths.fpn.", 4 - start))
    x = features(SIZES[size])
    for i, (mine, theirs) in enumerate(zip(ours(x), peer(x), strict=True)):
        assert_equal(f"{kind} {extra} {size}, level {i}", mine, theirs)


@pytest.mark.parametrize("training", [False, True])
def test_pan_with_norm_and_activation(training: bool) -> None:
    peer = PAFPN(list(CHANNELS), 32, 4, norm_cfg={"type": "BN"}, act_cfg={"type": "ReLU"}).double().train(training)
    ours = PAN(SPECS, channels=32, finest=4, coarsest=32, norm="bn", activation="relu").double().train(training)
    randomise(peer)
    copy_weights(peer, ours, keys("paths.fpn.", 4))
    for i, (mine, theirs) in enumerate(zip(ours(features((109, 179))), peer(features((109, 179))), strict=True)):
        assert_equal(f"pan bn relu, train={training}, level {i}", mine, theirs)


def test_upsample() -> None:
    peer = CTResNetNeck(40, (32, 24, 16), (4, 4, 4), use_dcn=False).double()
    ours = Upsample(SPECS, finest=4, widths=(32, 24, 16)).double()
    randomise(peer)
    copy_weights(peer, ours, upsample_keys())
    x = features((128, 192))
    assert_equal("upsample", ours(x)[0], peer(x)[0])


def upsample_keys(prefix: str = "") -> list[tuple[str, str]]:
    """A stage is two modules there and four here."""
    keys = []
    for stage in range(3):
        conv, up = rf"^deconv_layers\.{2 * stage}\.", rf"^deconv_layers\.{2 * stage + 1}\."
        base = f"{prefix}stages.{4 * stage}"
        keys += [(conv + "bn", base + ".norm"), (conv, base + ".")]
        keys += [(up + "conv", f"{prefix}stages.{4 * stage + 1}"), (up + "bn", f"{prefix}stages.{4 * stage + 2}")]
    return keys
