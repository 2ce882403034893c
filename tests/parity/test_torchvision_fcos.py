"""FCOS against torchvision's, weights copied: raw outputs, losses and detections."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.detection import fcos_resnet50_fpn
from torchvision_cases import (
    CROWDS,
    SIDE,
    assert_same_detections,
    assert_same_losses,
    batch_of,
    exact_normalisation,
    make_images,
    objects,
    padded,
    randomised,
    relative_error,
    spread_scores,
    their_maps,
)

from tools.parity.torchvision_recipes import fcos as recipe
from torso.models.detector import Detector
from torso.zoo.fcos import torchvision_model, torchvision_to_torso

CLASSES = 7


@pytest.fixture(scope="module")
def both() -> tuple[nn.Module, Detector]:
    theirs = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES, min_size=SIDE, max_size=1000)
    randomised(theirs, seed=0)
    theirs.eval()
    _, maps = their_maps(theirs, make_images(1))
    head, regression = theirs.head.classification_head, theirs.head.regression_head
    spread_scores(head.cls_logits, lambda: head(maps))
    spread_scores(regression.bbox_ctrness, lambda: regression(maps)[1])
    with torch.no_grad():
        regression.bbox_reg.bias.add_(1.0)
    ours = exact_normalisation(torchvision_model(num_classes=CLASSES).build())
    ours.load_state_dict(torchvision_to_torso(theirs.state_dict()))
    return theirs, ours


def test_raw_outputs(both: tuple[nn.Module, Detector]) -> None:
    theirs, ours = both
    images = make_images(1)
    batch, maps = their_maps(theirs, images)
    with torch.no_grad():
        want, raw = theirs.head(maps), ours(batch_of(images))
        anchors = theirs.anchor_generator(batch, maps)[0]
    assert relative_error(raw.logits, want["cls_logits"]) < 1e-9
    assert relative_error(raw.codes.relu(), want["bbox_regression"]) < 1e-9
    assert relative_error(raw.quality, want["bbox_ctrness"][..., 0]) < 1e-9
    assert torch.equal(raw.priors.boxes.double(), anchors)


@CROWDS
@pytest.mark.parametrize("seed", [0, 1])
def test_losses_and_their_gradients(both: tuple[nn.Module, Detector], counts: tuple[int, ...], seed: int) -> None:
    # float64 throughout: torchvision picks the smallest area by 1e8 - area, which float32 rounds to 8 px^2
    theirs, ours = both
    images, targets = make_images(2), objects(counts, CLASSES, seed)
    batch, maps = their_maps(theirs, images)
    with torch.no_grad():
        raw = ours(batch_of(images))
    anchors = theirs.anchor_generator(batch, maps)
    logits, codes, quality = (x.requires_grad_() for x in (raw.logits, raw.codes, raw.quality))
    outputs = {"cls_logits": logits, "bbox_regression": codes.relu(), "bbox_ctrness": quality[..., None]}
    want = theirs.compute_loss(targets, outputs, anchors, [m.shape[-2] * m.shape[-1] for m in maps])
    criterion = recipe(num_classes=CLASSES).build().criterion.build()
    names = {"cls": "classification", "box": "bbox_regression", "quality": "bbox_ctrness"}
    terms = criterion.terms(raw, padded(targets), ours.head)
    assert_same_losses(terms, want, names, (logits, codes, quality), objects=sum(counts))


@pytest.mark.parametrize("seed", [1, 2])
def test_detections(both: tuple[nn.Module, Detector], seed: int) -> None:
    theirs, ours = both
    images = make_images(seed)
    with torch.no_grad():
        assert_same_detections(ours.detect(batch_of(images)), theirs(images), at_least=20)


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 tensors are not of torchvision's fcos.*: head\.roi"):
        torchvision_to_torso({"head.roi": torch.zeros(1)})
