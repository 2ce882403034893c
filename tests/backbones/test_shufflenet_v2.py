"""ShuffleNetV2: torchvision's counts, halves that really mix, refusals."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from torso.backbones.shufflenet_v2 import ShuffleNetV2


@pytest.mark.parametrize(
    ("widths", "theirs"), [((48, 96, 192), "shufflenet_v2_x0_5"), ((116, 232, 464), "shufflenet_v2_x1_0")]
)
def test_as_many_parameters_as_torchvision(widths: tuple[int, int, int], theirs: str) -> None:
    with torch.device("meta"):
        ours, model = ShuffleNetV2(widths=widths), getattr(torchvision.models, theirs)(weights=None)
    parts: list[nn.Module] = [model.conv1, model.stage2, model.stage3, model.stage4]
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for m in parts for p in m.parameters())


def test_every_output_channel_sees_every_input_channel() -> None:
    body = ShuffleNetV2().eval()
    stage = body.stages[1]
    x = torch.randn(1, 48, 8, 8, requires_grad=True)
    stage(x).square().sum().backward()
    assert (x.grad.abs().sum((0, 2, 3)) > 0).all()
    block = stage[1]
    y = torch.randn(1, 96, 4, 4)
    assert torch.equal(block(y)[:, :48], y[:, 0::2])


@pytest.mark.parametrize("wrong", [{"widths": (47, 96, 192)}, {"repeats": (4, 0, 4)}, {"stem": 0}])
def test_sizes_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"ShuffleNetV2.{next(iter(wrong))}: expected "):
        ShuffleNetV2(**wrong)  # type: ignore[arg-type]
