"""The heatmap criterion: closed forms, order, empty batches, what it refuses, gradients, one compiled graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torso.data.targets import Targets
from torso.geometry.priors.points import Points
from torso.parts import Part, PartError, part
from torso.training.assigners.atss import ATSSAssigner
from torso.training.assigners.gaussian import GaussianAssigner
from torso.training.criteria._base import Terms, loss_of
from torso.training.criteria.heatmap import HeatmapCriterion
from torso.training.losses.iou import GIoULoss
from torso.training.losses.smooth_l1 import SmoothL1Loss
from torso.training.recipes.centernet_points import centernet_points as recipe
from torso.types import HeatmapPredictions, Images

SIDE, CLASSES = 16, 3


def predictions(b: int = 1, seed: int | None = None) -> HeatmapPredictions:
    g = torch.Generator().manual_seed(seed or 0)
    values = [torch.randn(b, SIDE * SIDE, k, generator=g) * (seed is not None) for k in (CLASSES, 2, 2)]
    priors = Points([(4, 4)], offset=0.0)([(SIDE, SIDE)], (SIDE * 4, SIDE * 4))
    return HeatmapPredictions(*(v.requires_grad_() for v in values), priors)


def make_targets(boxes: list[list[float]], labels: list[int], rows: int = 0) -> Targets:
    rows = max(rows, len(boxes))
    out = Targets(
        torch.zeros(1, rows, 4), torch.zeros(1, rows).long(), torch.zeros(1, rows) > 0, torch.zeros(1, rows) > 0
    )
    for i, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        out.boxes[0, i], out.labels[0, i], out.valid[0, i] = torch.tensor(box), label, True
    return out


def shares(terms: Terms) -> dict[str, float]:
    return {k: v.item() for k, v in loss_of(terms)[1].items()}


def test_size_and_offset_in_closed_form() -> None:
    # centre (21, 31): cell (5, 7), offset (.25, .75); size (10, 20) px is (2.5, 5) cells; zeros are predicted
    terms = HeatmapCriterion().terms(predictions(), make_targets([[16, 21, 26, 41]], [1], rows=4))
    assert list(terms) == ["heat", "size", "offset"]
    assert shares(terms)["size"] == pytest.approx(0.1 * (2.5 + 5) / 2)
    assert shares(terms)["offset"] == pytest.approx((0.25 + 0.75) / 2)


def test_heat_of_a_small_object_in_closed_form() -> None:
    # radius 0: one cell is 1, all others 0; at p = 1/2 each costs ln(2) / 4
    terms = HeatmapCriterion().terms(predictions(), make_targets([[20, 20, 22, 22]], [0]))
    assert shares(terms)["heat"] == pytest.approx(SIDE * SIDE * CLASSES * 0.1732868, rel=1e-6)


def test_every_object_counts_by_default_and_every_peak_in_mmdetections_way() -> None:
    both = make_targets([[16, 16, 28, 28], [17, 17, 27, 27]], [1, 1])
    assert HeatmapCriterion().terms(predictions(), both)["heat"].count == 2
    peaks = HeatmapCriterion(normaliser="peaks", assigner=part(GaussianAssigner, shared_cell="last")).terms(
        predictions(), both
    )
    assert peaks["size"].count == 1
    assert peaks["size"].total.item() == pytest.approx(0.1 * 2.5)  # the last one's size alone


def test_the_perfect_prediction_costs_nothing() -> None:
    targets = make_targets([[16, 21, 26, 41], [40, 8, 60, 20]], [1, 2])
    raw = predictions()
    heatmap, pairs = GaussianAssigner()(raw.priors, targets, CLASSES)
    sizes, offsets = torch.zeros_like(raw.sizes), torch.zeros_like(raw.offsets)
    sizes[0, pairs.prior[0]] = (targets.boxes[0, :, 2:] - targets.boxes[0, :, :2]) / 4
    offsets[0, pairs.prior[0]] = (targets.boxes[0, :, :2] + targets.boxes[0, :, 2:]) / 8 % 1
    perfect = HeatmapPredictions(torch.where(heatmap == 1, 20.0, -20.0), offsets, sizes, raw.priors)
    assert loss_of(HeatmapCriterion().terms(perfect, targets))[0] == pytest.approx(0, abs=1e-6)
    worse = perfect._replace(sizes=sizes + 0.1)
    assert shares(HeatmapCriterion().terms(worse, targets))["size"] > 0
    timid, bolder = (HeatmapCriterion().terms(perfect._replace(logits=perfect.logits * f), targets) for f in (0.1, 0.2))
    assert shares(timid)["heat"] > shares(bolder)["heat"] > 0


@pytest.mark.parametrize("rows", [0, 4])
def test_a_batch_without_objects_teaches_the_heatmap_alone(rows: int) -> None:
    raw = predictions(seed=1)
    none = make_targets([], [], rows=rows)
    none.boxes[:] = torch.nan
    loss, parts = loss_of(HeatmapCriterion().terms(raw, none))
    loss.backward()
    assert parts["size"] == 0
    assert parts["offset"] == 0
    assert parts["heat"] > 0
    assert all(x.grad is not None and x.grad.isfinite().all() for x in raw[:3])
    assert raw.logits.grad.abs().min() > 0


def test_losses_on_whole_boxes_are_refused_with_the_reason() -> None:
    with pytest.raises(PartError, match=r"sizes and offsets apart.*'l1'.*'smooth_l1'"):
        HeatmapCriterion(box_loss=part(GIoULoss))
    HeatmapCriterion(box_loss=part(SmoothL1Loss))


def test_assigners_of_dense_heads_are_refused() -> None:
    with pytest.raises(PartError, match="GaussianAssigner part"):
        part(HeatmapCriterion, assigner=part(ATSSAssigner))


def test_other_heads_are_refused() -> None:
    from torso.zoo.retinanet import retinanet

    with (
        torch.device("meta"),
        pytest.raises(PartError, match="RetinaNetHead gives DensePredictions: set criterion='dense'"),
    ):
        HeatmapCriterion().check(retinanet(num_classes=2).build())


def batch(b: int) -> tuple[Images, Targets]:
    g = torch.Generator().manual_seed(5)
    pixels = torch.rand(b, 3, 64, 96, generator=g) * 255
    size = torch.tensor([[64.0, 96.0]]).expand(b, 2)
    corner = torch.rand(b, 5, 2, generator=g) * 40
    boxes = torch.cat([corner, corner + 4 + torch.rand(b, 5, 2, generator=g) * 20], dim=-1)
    valid = torch.arange(5).expand(b, 5) < 3
    labels = torch.randint(0, CLASSES, (b, 5), generator=g)
    images = Images(pixels, size, torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(b, 4))
    return images, Targets(boxes, labels, valid, ~valid)


def recipe_parts() -> tuple[Part, Part]:
    return recipe(num_classes=CLASSES).get("model"), recipe(num_classes=CLASSES).get("criterion")


def test_gradients_reach_every_parameter() -> None:
    model, criterion = (p.build() for p in recipe_parts())
    for name, p in model.named_parameters():
        if name.endswith("bn2.weight"):  # timm starts residual branches at 0, where nothing before them learns yet
            torch.nn.init.ones_(p)
    loss, _ = loss_of(criterion(model, *batch(2)))
    loss.backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


def test_terms_compile_to_one_graph() -> None:
    raw, targets = predictions(2, seed=3), batch(2)[1]
    criterion = HeatmapCriterion(assigner=part(GaussianAssigner, shared_cell="last"))

    def step(logits: Tensor, offsets: Tensor, sizes: Tensor) -> Tensor:
        return loss_of(criterion.terms(HeatmapPredictions(logits, offsets, sizes, raw.priors), targets))[0]

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*raw[:3]), step(*raw[:3]))
