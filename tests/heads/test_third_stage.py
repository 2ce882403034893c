"""A head with a third stage sees the kept rows with the maps of the same pass, whichever way prediction goes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torso.backbones.timm import Timm
from torso.inference.predictor import Predictor
from torso.inference.runtime import Runtime
from torso.inputs.letterbox import Letterbox
from torso.models.detector import Detector
from torso.necks.fpn import FPN
from torso.parts import part
from torso.types import Candidates, Images
from torso.zoo.fcos import FCOSHead


class Refining(FCOSHead, num_classes=2, finest=8, coarsest=32, channels=16, tower=1):
    """Writes into each kept row's variance the mean of the finest map under its box's centre."""

    has_third_stage = True

    def refine(self, features: list[Tensor], kept: Candidates, images: Images) -> Candidates:
        means = features[0].mean(dim=1)
        x, y = ((kept.boxes[..., :2] + kept.boxes[..., 2:]) / 16).long().unbind(-1)
        x, y = x.clamp(max=means.shape[2] - 1), y.clamp(max=means.shape[1] - 1)
        said = means.flatten(1).gather(1, y * means.shape[2] + x).where(kept.scores > 0, 0.0)
        return kept.changed(variance=said.exp()[..., None].expand(-1, -1, 4).float().contiguous())


def model() -> Detector:
    torch.manual_seed(0)
    return Detector(
        backbone=part(Timm, name="test_resnet"),
        neck=part(FPN, channels=16, finest=8, coarsest=32),
        head=part(Refining, score_threshold=0.0),
        input=part(Letterbox, size_hw=(64, 64)),
    ).eval()


def images() -> Images:
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    return Images(pixels, torch.full((2, 2), 64.0), torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(2, 4))


@torch.no_grad()
def test_it_gets_the_maps_of_the_pass_that_its_rows_come_from() -> None:
    detector, passes = model(), []
    detector.backbone.register_forward_hook(lambda *_: passes.append(1))
    found = detector.detect(images())
    assert len(passes) == 1
    kept = detector.suppression(detector.candidates(images()))
    expected = detector.head.refine(detector.features(images()), kept, images())
    assert expected.variance is not None
    assert found.variance is not None
    assert len(expected.variance.unique()) > 10
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)


@torch.no_grad()
@pytest.mark.parametrize("compile", [False, True])
def test_the_runtime_and_a_compiled_graph_go_the_same_way(compile: bool) -> None:
    run = (
        torch.compile(model().detect, fullgraph=True, backend="eager") if compile else Runtime(model(), precision="32")
    )
    found, expected = run(images()), model().detect(images())
    assert found.variance is not None
    assert expected.variance is not None
    assert torch.allclose(found.scores, expected.scores, atol=1e-5)
    assert torch.allclose(found.variance, expected.variance, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.no_grad()
def test_it_is_part_of_the_recorded_graph() -> None:
    detector = model().cuda()
    runtime = Runtime(detector, precision="32", graphs=True)
    for _ in range(2):
        found = runtime(images())
        expected = detector.detect(Images(*(x.cuda() for x in images())))
        assert found.variance is not None
        assert expected.variance is not None
        assert torch.allclose(found.variance, expected.variance, atol=1e-3)


@torch.no_grad()
def test_what_it_says_comes_out_of_prediction() -> None:
    detector, image = model(), images().pixels[0].byte()
    (found,) = Predictor(detector)([image])
    batch = Images(image[None].float(), torch.tensor([[64.0, 64.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    expected = detector.detect(batch)
    assert found.variance is not None
    assert expected.variance is not None
    assert torch.allclose(found.variance, expected.variance[0, : len(found)])


def test_views_that_are_suppressed_together_are_refused() -> None:
    with pytest.raises(ValueError, match="third stage"):
        Predictor(model(), pyramid=(0.5, 1.0))


@torch.no_grad()
def test_other_heads_are_not_asked() -> None:
    detector = Detector(
        backbone=part(Timm, name="test_resnet"),
        neck=part(FPN, channels=16, finest=8, coarsest=32),
        head=part(FCOSHead, num_classes=2, finest=8, coarsest=32, channels=16, tower=1),
    ).eval()
    assert not detector.has_third_stage
    detector.detect(images())  # Head.refine raises NotImplementedError
