"""SSD300 and SSD512: published parameters and numbers of default boxes, images of exactly that size, training."""

from __future__ import annotations

import pytest
import torch
from training.small import freeze_unused

from torso.data.targets import Targets
from torso.engine.step import TrainStep
from torso.models.detector import Detector
from torso.parts import find
from torso.training.assigners._base import boxes_to_match
from torso.training.criteria._base import Terms
from torso.types import Images, Priors

PUBLISHED = {"ssd300": (300, 34_305_206, 8732), "ssd512": (512, 36_038_196, 24564)}


class OnMeta(TrainStep):
    """The step without autocast, which does not know tensors that are shapes alone."""

    def forward(self, images: Images, targets: Targets) -> Terms:
        return self.criterion(self.model, images, targets)


def on_meta(name: str) -> Detector:
    with torch.device("meta"):
        built: Detector = find(name, "zoo")().build()
    return built


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_default_boxes(name: str) -> None:
    side, parameters, boxes = PUBLISHED[name]
    model = on_meta(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.input.padded([model.input.resized((480, 640))], model.multiple) == (side, side)
    with torch.device("meta"):
        images = Images(torch.zeros(1, 3, side, side), torch.full((1, 2), float(side)), torch.zeros(1, 4))
        raw = model(images)
    assert raw.logits.shape == (1, boxes, 81)
    assert raw.priors.levels[-1][:2] == (1, 1), "the last level is one place"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_recipe_fits_its_model(name: str) -> None:
    recipe = find(name, "recipes")(num_classes=3).build()
    criterion = recipe.criterion.build()
    with torch.device("meta"):
        criterion.check(recipe.model.build())
    assert recipe.model == find(name, "zoo")(num_classes=3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_training_starts_with_every_parameter(name: str) -> None:
    """The blank images that it starts with must be large enough for SSD300's unpadded convolutions."""
    recipe = find(name, "recipes")(num_classes=3)
    with torch.device("meta"):
        step = OnMeta(recipe.get("model").build(), recipe.get("criterion").build())
        assert freeze_unused(step) == []


def test_a_default_box_as_wide_as_its_stride_is_no_point() -> None:
    """The clipped ones of SSD300's last level are 300 px on stride 300; taken for points they matched nothing."""
    sides, strides = torch.tensor([[300.0, 300.0], [200.0, 300.0]]), torch.full((2, 2), 300.0)
    priors = Priors(torch.full((2, 2), 150.0), sides, strides, ((1, 1, 2),))
    assert torch.equal(boxes_to_match(priors, 8.0), priors.boxes)
    alone = Priors(*(x[:1] for x in priors[:3]), ((1, 1, 1),))
    assert torch.equal(boxes_to_match(alone, 8.0), alone.boxes)
