"""ASPP against torchvision's with copied weights, and a batch of one image."""

from __future__ import annotations

import re

import pytest
import torch
from torchvision.models.segmentation import deeplabv3

from torso.blocks.aspp import ASPP

RATES = (12, 24, 36)


def key(name: str) -> str:
    """torchvision's name of one of our weights."""
    part = {"conv": "0", "norm": "1"}
    if match := re.fullmatch(r"branches\.(\d)\.(conv|norm)\.(\w+)", name):
        return f"convs.{match[1]}.{part[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"whole\.(\d)\.(\w+)", name):
        return f"convs.{len(RATES) + 1}.{int(match[1]) + 1}.{match[2]}"
    match = re.fullmatch(r"project\.(conv|norm)\.(\w+)", name)
    assert match
    return f"project.{part[match[1]]}.{match[2]}"


def pair() -> tuple[ASPP, deeplabv3.ASPP]:
    torch.manual_seed(0)
    theirs = deeplabv3.ASPP(24, RATES, 16).double()
    theirs.project[3].p = 0.0  # its dropout draws other numbers
    for m in theirs.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            for value in (m.running_mean, m.weight.data, m.bias.data):
                torch.nn.init.normal_(value)
            torch.nn.init.uniform_(m.running_var, 0.5, 2)
    ours = ASPP(24, channels=16, rates=RATES).double()
    weights = theirs.state_dict()
    assert {key(n) for n in ours.state_dict()} == set(weights)
    ours.load_state_dict({n: weights[key(n)] for n in ours.state_dict()})
    return ours, theirs


@pytest.mark.parametrize("size", [(33, 41), (5, 3), (1, 1)])
def test_equal_to_torchvision_in_eval(size: tuple[int, int]) -> None:
    ours, theirs = (m.eval() for m in pair())
    x = torch.randn(2, 24, *size, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)


def test_equal_to_torchvision_in_training_and_in_what_it_stores() -> None:
    ours, theirs = pair()
    x = torch.randn(3, 24, 9, 11, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)
    stored = theirs.state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, stored[key(name)], rtol=1e-6, atol=1e-6)


def test_one_image_trains_and_leaves_the_stored_statistics_of_the_mean() -> None:
    ours, theirs = pair()
    x = torch.randn(1, 24, 9, 11, dtype=torch.float64)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        theirs(x)
    before = ours.whole[1].running_var.clone()
    ours(x).square().sum().backward()
    assert torch.equal(ours.whole[1].running_var, before)
    assert ours.whole[0].weight.grad.abs().sum() > 0  # the branch learns from one image


def test_every_branch_sees_its_rate() -> None:
    torch.manual_seed(0)
    aspp = ASPP(4, channels=4, rates=(2, 5), activation="none").double().eval()
    x = torch.randn(1, 4, 31, 31, dtype=torch.float64, requires_grad=True)
    reach = []
    for branch in aspp.branches:
        (grad,) = torch.autograd.grad(branch(x)[0, :, 15, 15].sum(), x)
        rows = grad[0].abs().sum((0, 2)).nonzero().flatten()
        reach.append(int(rows.max() - rows.min()) + 1)
    assert reach == [1, 5, 11]
    (grad,) = torch.autograd.grad(aspp(x)[0, :, 0, 0].sum(), x)
    assert (grad.abs().sum((0, 1)) > 0).all()  # the mean sees every place


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"rates: expected a list of a whole number of at least 1, got \(0, 6\)"):
        ASPP(8, rates=(0, 6))
    assert ASPP(8, channels=None).out_channels == 8
