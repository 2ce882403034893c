"""FPN: the sum of the paper's figure, which levels come out, what makes the extra ones, and its errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from torso.necks.fpn import FPN
from torso.types import FeatureSpec

SPECS = tuple(FeatureSpec(c, (s, s)) for c, s in ((4, 2), (8, 4), (12, 8), (16, 16), (24, 32)))


def maps(size: int = 128, batch: int = 2) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(batch, s.channels, -(-size // s.stride), -(-size // s.stride), generator=g) for s in SPECS]


@pytest.mark.parametrize(
    ("finest", "coarsest", "strides"),
    [(8, 128, [8, 16, 32, 64, 128]), (4, 64, [4, 8, 16, 32, 64]), (4, 32, [4, 8, 16, 32]), (8, 16, [8, 16])],
)
@pytest.mark.parametrize("extra", ["conv_c5", "conv_p5", "pool"])
def test_levels(finest: int, coarsest: int, strides: list[int], extra: str) -> None:
    neck = FPN(SPECS, channels=6, finest=finest, coarsest=coarsest, extra=extra)  # type: ignore[arg-type]
    out = neck(maps())
    assert [s.stride for s in neck.out_specs] == strides
    assert [tuple(m.shape) for m in out] == [(2, 6, 128 // s, 128 // s) for s in strides]


def test_equals_torchvisions() -> None:
    """Its FeaturePyramidNetwork with the levels of RetinaNet, weights copied by position."""
    theirs = torchvision.ops.FeaturePyramidNetwork(
        [12, 16, 24], 6, extra_blocks=torchvision.ops.feature_pyramid_network.LastLevelP6P7(24, 6)
    )
    ours = FPN(SPECS, channels=6, extra="conv_c5")
    pairs = [
        *zip(ours.lateral, theirs.inner_blocks, strict=True),
        *zip(ours.output, theirs.layer_blocks, strict=True),
        (ours.extra.convs[0], theirs.extra_blocks.p6),
        (ours.extra.convs[1], theirs.extra_blocks.p7),
    ]
    for mine, other in pairs:
        convs = [next(m for m in x.modules() if isinstance(m, nn.Conv2d)) for x in (mine, other)]
        convs[0].load_state_dict(convs[1].state_dict())
    features = maps(100)  # odd sizes on the way
    want = list(theirs({str(i): m for i, m in enumerate(features[2:])}).values())
    torch.testing.assert_close(ours(features), want)


def test_pooled_level_takes_every_second_place() -> None:
    out = FPN(SPECS, channels=6, finest=4, coarsest=64, extra="pool")(maps())
    assert torch.equal(out[-1], out[-2][:, :, ::2, ::2])


def test_a_convolution_of_a_sum_is_one_of_the_concatenation_with_shared_kernels() -> None:
    """Why the lateral sum needs no wider convolution behind it."""
    a, b = torch.randn(1, 3, 5, 5), torch.randn(1, 3, 5, 5)
    w, bias = torch.randn(4, 3, 3, 3), torch.randn(4)
    joined = F.conv2d(torch.cat([a, b], 1), torch.cat([w, w], 1), bias, padding=1)
    torch.testing.assert_close(F.conv2d(a + b, w, bias, padding=1), joined, rtol=1e-4, atol=1e-5)


def test_the_start_must_be_a_level_of_the_backbone() -> None:
    with pytest.raises(ValueError, match=r"starts at stride 64, but the incoming levels have .*\[2, 4, 8, 16, 32\]"):
        FPN(SPECS, finest=64)


def test_initialisation_is_the_reference_implementations() -> None:
    neck = FPN(SPECS, channels=64)
    bound = (3 / (24 * 1)) ** 0.5  # kaiming uniform with a = 1: sqrt(3 / fan_in)
    weight = neck.lateral[-1].conv.weight
    assert 0.95 * bound < float(weight.detach().abs().max()) <= bound
    assert not neck.lateral[-1].conv.bias.any()
