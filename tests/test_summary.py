"""The counts behind `torso show`: equal to the built model's, to published numbers and to a count by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from torso.backbones.timm import Timm
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import Part, find, names, part
from torso.summary import summarise
from torso.training.compose_recipe import compose_recipe
from torso.types import FeatureSpec, Images, RawPredictions
from torso.zoo.fcos import FCOSHead, fcos
from torso.zoo.retinanet import retinanet


def small() -> Part[Detector]:
    return part(
        Detector,
        backbone=part(Timm, name="test_resnet"),
        neck=part(FPN, channels=16, finest=8, coarsest=32),
        head=part(FCOSHead, num_classes=2, finest=8, coarsest=32, channels=32, tower=1),
        input=part(Letterbox, size_hw=(64, 96)),
    )


@pytest.mark.parametrize(("zoo", "parameters"), [(retinanet, 37_968_692), (fcos, 32_295_322)])
def test_published_parameter_counts(zoo: Callable[[], Part[Detector]], parameters: int) -> None:
    """mmdetection's retinanet_r50_fpn_1x and fcos' (as atss_r50_fpn_1x, the same layers).

    Frozen: the 7x7 stem and the convolutions of the first stage (222,400), scale and shift of all BatchNorms.
    """
    summary = summarise(zoo(), (64, 64))
    assert summary.parameters == parameters
    assert summary.parameters - summary.learnable == 222_400 + 2 * 26_560


def test_retinanet_with_resnet50_has_the_published_cost() -> None:
    """TensorFlow's model garden: 34.0 M and 97.0 G multiply-adds at 640, 91 outputs, P6 from P5, norms counted in both.

    Ours has biases in place of the norms of pyramid and towers: 0.2 % more parameters, 0.1 % fewer multiply-adds.
    """
    recipe = compose_recipe("retinanet", num_classes=91, overrides={"neck.extra": "conv_p5"})
    summary = summarise(recipe.get("model"), (640, 640))
    assert (summary.parameters, round(summary.flops / 2e9, 2)) == (34_068_119, 96.88)
    assert summary.parameters / 1e6 == pytest.approx(34.0, rel=2.5e-3)
    assert summary.flops / 2e9 == pytest.approx(97.0, rel=2e-3)


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


@pytest.mark.parametrize("model", ["fcos", "faster_rcnn", "centernet_points"])
def test_what_no_head_reads_changes_nothing(model: str) -> None:
    """Only the maps that are said to be read move the head's answer; at least one of the others is there to say so."""
    zoo = find(model, "zoo")(num_classes=2).with_args(backbone=part(Timm, name="test_resnet"))
    if model != "centernet_points":
        zoo = zoo.with_args(neck=part(FPN, channels=16, finest=4, coarsest=64))
    size = (64, 96)
    torch.manual_seed(0)
    built = zoo.build().eval()
    images = Images(torch.zeros(1, 3, *size), torch.tensor([[64.0, 96.0]]), torch.zeros(1, 4))
    levels = summarise(zoo, size).stages[-2].levels
    with torch.no_grad():
        maps = built.features(images._replace(pixels=torch.rand(1, 3, *size) * 255))
        before = moved(built.head, maps, images)
        for i, level in enumerate(levels):
            after = moved(built.head, [m + 1 if i == j else m for j, m in enumerate(maps)], images)
            assert torch.equal(after, before) != level.read, level


def moved(head: torch.nn.Module, maps: list[torch.Tensor], images: Images) -> torch.Tensor:
    """All numbers of the raw predictions in a row."""

    def numbers(raw: object) -> list[torch.Tensor]:
        if isinstance(raw, torch.Tensor):
            return [raw.flatten().double()]
        return [n for value in raw for n in numbers(value)] if hasattr(raw, "_asdict") else []  # type: ignore[attr-defined]

    return torch.cat(numbers(head(maps, images)))


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
    with pytest.raises(ValueError, match="multiples of 32: the nearest is 64x96"):
        summarise(small(), (60, 96))
    with pytest.raises(ValueError, match="the nearest is 512x32"):
        summarise(small(), (500, 0))


def test_nothing_is_allocated() -> None:
    """At this size the pixels alone would take 12 GB if they were real."""
    assert summarise(small(), (32_000, 32_000)).flops > 1e12


class _Queries(nn.Module):
    def forward(self, queries: Tensor) -> Tensor:
        return queries * 2


class QueryHead(FCOSHead):
    """Hands a view of a parameter to a submodule, as heads of learned queries do."""

    def __init__(self, in_specs: Sequence[FeatureSpec]) -> None:
        super().__init__(in_specs, num_classes=2, finest=8, coarsest=32, channels=32, tower=1)
        self.queries, self.decoder = nn.Parameter(torch.zeros(5, 8)), _Queries()

    def forward(self, features: list[Tensor], images: Images) -> RawPredictions:
        self.decoder(self.queries[None].expand(len(images.pixels), -1, -1))
        return super().forward(features, images)


def test_a_head_of_learned_queries_can_be_counted() -> None:
    counted = summarise(small().with_args(head=part(QueryHead)))
    assert counted.learnable == summarise(small()).learnable + 5 * 8
