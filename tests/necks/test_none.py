"""No neck: a head straight on the backbone's levels, the baseline of every comparison."""

from __future__ import annotations

import pytest
import torch
from neck_cases import count

from torso.backbones.timm import Timm
from torso.compose import compose_model
from torso.data.targets import Targets
from torso.models.detector import Detector
from torso.parts import Part, find, named, part
from torso.training.criteria._base import loss_of
from torso.types import Images

SMALL = part(Timm, name="test_resnet", frozen_stride=0, frozen_norm=False)


def detector(head: str, **args: object) -> Detector:
    torch.manual_seed(0)
    made: Part[Detector] = part(
        Detector, backbone=SMALL, head=named(head, "heads").with_args(num_classes=3, channels=32, tower=1, **args)
    )
    return made.build()


def images() -> Images:
    pixels = torch.rand(2, 3, 70, 90, generator=torch.Generator().manual_seed(0)) * 255
    return Images(pixels, torch.tensor([[70.0, 90.0], [60, 80]]), torch.tensor([[1.0, 1, 0, 0]]).expand(2, 4))


@pytest.mark.parametrize("head", ["retinanet", "fcos"])
def test_the_head_takes_the_backbones_levels(head: str) -> None:
    model = detector(head)
    assert len(model.neck) == 0
    assert [name for name, _ in model.specs] == ["backbone"]
    offered = [s for s in model.backbone.out_specs if s.stride >= 8]
    assert [s.channels for s in offered] == [m.in_channels for m in model.head.bring]  # a 1x1 each: widths differ
    raw = model(images())
    assert [(h, w) for h, w, _ in raw.priors.levels] == [(-(-70 // s.stride), -(-90 // s.stride)) for s in offered]


@pytest.mark.parametrize("head", ["retinanet", "fcos"])
def test_it_learns(head: str) -> None:
    model = detector(head).train()
    criterion = find(head, "recipes")(num_classes=3).get("criterion").build()
    boxes = torch.tensor([[[4.0, 6, 40, 50], [20, 10, 60, 58]]]).expand(2, 2, 4)
    yes = torch.ones(2, 2, dtype=torch.bool)
    total, _ = loss_of(criterion(model, images(), Targets(boxes, torch.tensor([[0, 1]]).expand(2, 2), yes, ~yes)))
    total.backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    assert all(g is not None and g.isfinite().all() for n, g in gradients.items() if "head" in n), gradients.keys()
    model.eval()
    with torch.no_grad():
        assert model.detect(images()).boxes.isfinite().all()


def test_one_flag_removes_the_neck() -> None:
    with_neck = find("retinanet", "zoo")()
    without = compose_model("retinanet", neck="none")
    assert not without.get("neck")
    with torch.device("meta"):
        assert count(without.build()) < count(with_neck.build())


def test_a_head_finer_than_the_backbone_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"needs a level of stride 1; the levels here .* or choose another head"):
        detector("retinanet", finest=1)
