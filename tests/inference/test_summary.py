"""The counts behind `torso show`: equal to the built model's, to published numbers and to a count by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from torso.backbones.timm import Timm
from torso.heads.fcos import FCOS
from torso.inference.summary import summarise
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import Part, find, names, part
from torso.types import Images
from torso.zoo.fcos import fcos
from torso.zoo.retinanet import retinanet


def small() -> Part[Detector]:
    return part(
        Detector,
        backbone=part(Timm, name="test_resnet"),
        neck=part(FPN, channels=16, finest=8, coarsest=32),
        head=part(FCOS, num_classes=2, finest=8, coarsest=32, channels=32, tower=1),
        input=part(Letterbox, size_hw=(64, 96)),
    )


@pytest.mark.parametrize(("zoo", "parameters"), [(retinanet, 37_968_692), (fcos, 32_295_322)])
def test_published_parameter_counts(zoo: Callable[[], Part[Detector]], parameters: int) -> None:
    """Frozen: the 7x7 stem and the convolutions of the first stage (222,400), scale and shift of all BatchNorms."""
    summary = summarise(zoo(), (64, 64))
    assert summary.parameters == parameters
    assert summary.parameters - summary.learnable == 222_400 + 2 * 26_560


@pytest.mark.parametrize("model", names("zoo"))
def test_every_model_of_the_zoo_can_be_counted(model: str) -> None:
    summary = summarise(find(model, "zoo")())
    assert all(stage.flops > 0 and stage.parameters > 0 for stage in summary.stages)
    assert summary.outputs


def test_it_agrees_with_the_model_that_is_built() -> None:
    summary = summarise(small())
    model = small().build().eval()
    raw = model(Images(torch.zeros(1, 3, 64, 96), torch.tensor([[64.0, 96.0]]), torch.zeros(1, 4)))
    assert summary.input_hw == (64, 96)
    assert summary.parameters == sum(p.numel() for p in model.parameters())
    assert summary.outputs["logits"] == tuple(raw.logits.shape)
    assert summary.outputs["priors.centers_xy"] == tuple(raw.priors.centers_xy.shape)
    maps = [level.size_hw for level in summary.stages[1].levels]
    assert maps == [(8, 12), (4, 6), (2, 3)]


def test_flops_are_twice_the_multiply_adds() -> None:
    """The neck by hand: 1x1 laterals of 3 levels and 3x3 outputs of 16 channels."""
    summary = summarise(small())
    widths = [level.channels for level in summary.stages[0].levels if level.stride_yx[0] >= 8]
    places = [8 * 12, 4 * 6, 2 * 3]
    by_hand = sum(2 * n * (c * 16 + 9 * 16 * 16) for n, c in zip(places, widths, strict=True))
    assert summary.stages[1].flops == by_hand
    assert summary.flops == sum(s.flops for s in summary.stages)
    assert summary.to_dict()["flops_unit"].startswith("2 x multiply-adds")


def test_a_short_side_policy_is_shown_at_the_papers_size() -> None:
    assert summarise(fcos()).input_hw == (800, 1344)


def test_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        summarise(small(), (60, 96))


def test_nothing_is_allocated() -> None:
    """At this size the pixels alone would take 12 GB if they were real."""
    assert summarise(small(), (32_000, 32_000)).flops > 1e12
