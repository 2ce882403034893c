"""A detector is a plain nn.Module: it takes a tensor [B, 3, H, W] too, traced and compiled alike."""

from __future__ import annotations

import pytest
import torch

import torso
from torso.images import as_images, stack_images
from torso.models.detector import Detector
from torso.parts import PartError


@pytest.fixture(scope="module")
def model() -> Detector:
    small = {"neck.channels": 16, "neck.coarsest": 32, "head.coarsest": 32, "head.channels": 16, "head.tower": 1}
    return torso.create("fcos", num_classes=2, backbone="test_resnet", overrides=small).eval()


def random_images(height: int = 64, width: int = 96) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size_hw", [(64, 96), (50, 70)])
def test_a_tensor_is_a_batch_of_whole_images(model: Detector, size_hw: tuple[int, int]) -> None:
    pixels = random_images(*size_hw)
    canvas = tuple(-(-side // model.multiple) * model.multiple for side in size_hw)
    images = stack_images(list(pixels), canvas, [(1.0, 1.0, 0.0, 0.0)] * 2)
    given = as_images(pixels, model.multiple)
    assert torch.equal(given.pixels, images.pixels)
    assert torch.equal(given.size_hw, images.size_hw)
    assert torch.equal(given.to_original, images.to_original)
    with torch.no_grad():
        for stage in (model, model.candidates, model.detect):
            for ours, theirs in zip(stage(pixels)[:2], stage(images)[:2], strict=True):
                assert torch.equal(ours, theirs)
        assert torch.equal(model.features(pixels)[0], model.features(images)[0])
        assert torch.equal(model(pixels.float()).logits, model(images).logits)


@pytest.mark.parametrize(
    ("given", "came"),
    [
        (torch.zeros(3, 8, 8), r"a Tensor \[3, 8, 8\] of torch.float32"),
        (torch.zeros(1, 8, 8, 3), r"a Tensor \[1, 8, 8, 3\]"),
        (torch.zeros(0, 3, 8, 8), r"a Tensor \[0, 3, 8, 8\]"),
        (
            torch.zeros(1, 3, 8, 8, dtype=torch.int64),
            r"uint8 or floating RGB in 0..255, got a Tensor .* of torch.int64",
        ),
        ([torch.zeros(3, 8, 8)], "got a list of 1"),
        (None, "got None"),
    ],
)
def test_anything_else_is_told_what_was_expected(model: Detector, given: object, came: str) -> None:
    for stage in (model, model.features, model.candidates, model.detect):
        with pytest.raises(PartError, match=rf"^images: expected .*{came}"):
            stage(given)


@pytest.mark.slow
def test_it_is_traced_without_a_break(model: Detector) -> None:
    pixels = random_images()
    with torch.no_grad():
        wanted = model(pixels).logits
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert torch.equal(compiled(pixels).logits, wanted)
        assert torch.equal(compiled(as_images(pixels)).logits, wanted)
        exported = torch.export.export(model, (pixels,)).module()
        assert torch.equal(exported(pixels)[0], wanted)
