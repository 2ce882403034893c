"""What every zoo model promises: it runs, trains, compiles in one graph and is exported; its recipe learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract_cases import check_gradients, images, smallest, targets
from torch import Tensor, nn

from torso.data.targets import Targets
from torso.models.detector import Detector
from torso.parts import Part, find, names
from torso.training.criteria._base import Criterion, loss_of
from torso.types import Images

SIZE = (64, 96)


def recipe_of(name: str) -> Part[Any]:
    make = find(name, "recipes")
    return smallest(make() if name == "rpn" else make(num_classes=3))


def classes_of(value: Any) -> tuple[str, ...]:
    """Names of all the parts inside a part, in order."""
    if isinstance(value, tuple):
        return tuple(n for v in value for n in classes_of(v))
    return (value.name, *classes_of(tuple(v for _, v in value.args))) if isinstance(value, Part) else ()


# of a family's members that are made of the same classes, and differ in numbers alone, the first stands for all
MODELS = sorted({(find(n, "zoo").__module__, classes_of(recipe_of(n))): n for n in reversed(names("zoo"))}.values())


def model_of(name: str) -> Detector:
    torch.manual_seed(0)
    built: Detector = recipe_of(name).get("model").build()
    return built


def criterion_of(name: str) -> Criterion:
    built: Criterion = recipe_of(name).get("criterion").build()
    return built


@pytest.mark.parametrize("name", MODELS)
def test_detects_the_same_twice_and_ignores_padding(name: str) -> None:
    model = model_of(name).eval()
    batch = images(SIZE)
    noisy = batch.pixels.clone()
    noisy[1, :, int(batch.size_hw[1, 0]) :] = 200.0
    with torch.no_grad():
        first, second = model.detect(batch), model.detect(batch._replace(pixels=noisy))
    for a, b in zip(first, second, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    assert first.boxes.isfinite().all()
    assert first.scores.shape[1] == model.suppression.limits.max_detections


@pytest.mark.parametrize("name", MODELS)
def test_learns_with_gradients_everywhere_and_changes_no_input(name: str) -> None:
    model, criterion = model_of(name), criterion_of(name)
    criterion.check(model)
    batch, truth = images(SIZE), targets()
    before = [t.clone() for t in (batch.pixels, batch.size_hw, truth.boxes, truth.labels, truth.valid, truth.crowd)]
    torch.manual_seed(1)
    total, shares = loss_of(criterion(model, batch, truth))
    assert all(s.isfinite() and s >= 0 for s in shares.values()), shares
    total.backward()
    check_gradients(model)
    after = (batch.pixels, batch.size_hw, truth.boxes, truth.labels, truth.valid, truth.crowd)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("kind", ["none", "crowd"])
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_without_objects_is_finite_and_still_teaches_background(name: str, kind: str) -> None:
    model, criterion = model_of(name), criterion_of(name)
    total, shares = loss_of(criterion(model, images(SIZE), targets(kind)))
    total.backward()
    check_gradients(model)
    background = [v for k, v in shares.items() if k.endswith(("cls", "heat", "objectness"))]
    assert float(torch.stack(background).detach().sum()) > 0
    of_objects = ("box", "dfl", "size", "offset", "quality")
    assert all(float(v.detach()) == 0 for k, v in shares.items() if k.endswith(of_objects))


@pytest.mark.parametrize("name", ["fcos", "yolov1", "centernet_points", "faster_rcnn"])
def test_targets_without_a_row_are_images_without_objects(name: str) -> None:
    """One model a criterion; what a caller's own collating makes of empty images."""
    model, criterion = model_of(name), criterion_of(name)
    empty = targets("none")
    rowless = Targets(*(field[:, :0] for field in empty[:4]))
    losses = []
    for truth in (empty, rowless):
        torch.manual_seed(1)
        losses.append(loss_of(criterion(model, images(SIZE), truth))[1])
    torch.testing.assert_close(losses[1], losses[0])


@pytest.mark.parametrize("name", MODELS)
def test_a_better_model_has_a_lower_loss(name: str) -> None:
    model, criterion = model_of(name), criterion_of(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses: list[float] = []
    # classes or objectness that are to score a box's IoU have next to nothing to learn until boxes fit, and then more
    while len(losses) < 45 and not (losses and losses[-1] < 0.85 * losses[0]):
        torch.manual_seed(1)
        total, _ = loss_of(criterion(model, images(SIZE), targets()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.85 * losses[0], losses


class Tensors(torch.nn.Module):
    """Candidates' tensors by name: export knows neither Images nor None."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, size_hw: Tensor, to_original: Tensor) -> dict[str, Tensor]:
        found = self.model.detect(Images(pixels, size_hw, to_original))
        return {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}


@pytest.mark.parametrize("name", MODELS)
def test_head_and_decoding_compile_in_one_graph(name: str) -> None:
    model = model_of(name).eval()
    batch = images(SIZE)
    with torch.no_grad():
        features = model.features(batch)  # timm's graph is timm's affair, and costs most of the time

    def run(features: list[Tensor], batch: Images) -> Any:
        return model.head.decode(model.head(features, batch), batch)

    torch.compiler.reset()
    with torch.no_grad():
        wanted, got = run(features, batch), torch.compile(run, fullgraph=True, backend="aot_eager")(features, batch)
    torch.testing.assert_close(got.scores, wanted.scores)
    torch.testing.assert_close(got.boxes, wanted.boxes, rtol=1e-4, atol=1e-3)


class Maps(nn.Module):
    """Stands for a backbone: gives the same maps whatever it sees."""

    def __init__(self, maps: list[Tensor]) -> None:
        super().__init__()
        self.maps = nn.ParameterList(m.detach() for m in maps)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return list(self.maps)


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_traced_in_one_graph(name: str) -> None:
    model, criterion = model_of(name), criterion_of(name)
    model.backbone = Maps(model.backbone(images(SIZE).pixels))  # each body's own graph is held to in its own tests

    def run(batch: Images, truth: Targets) -> Tensor:
        return loss_of(criterion(model, batch, truth))[0]

    torch.compiler.reset()
    torch.manual_seed(1)
    assert torch.compile(run, fullgraph=True, backend="eager")(images(SIZE), targets()).isfinite()


@pytest.mark.parametrize("name", MODELS)
def test_is_exported(name: str) -> None:
    model = Tensors(model_of(name).eval())
    batch = images(SIZE)
    with torch.no_grad():
        exported = torch.export.export(model, tuple(batch)).module()(*batch)
        wanted = model(*batch)
    torch.testing.assert_close(exported["scores"], wanted["scores"])
    torch.testing.assert_close(exported["boxes"], wanted["boxes"], rtol=1e-4, atol=1e-3)
