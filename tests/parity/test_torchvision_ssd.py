"""SSD300 against torchvision's, weights copied: raw outputs, losses and detections."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16
from torchvision.ops import box_iou
from torchvision_cases import (
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

from tools.parity.torchvision_recipes import ssd300 as recipe
from torso.models.detector import Detector
from torso.types import DensePredictions, Images
from torso.zoo.ssd import torchvision_model, torchvision_to_torso

CLASSES = 7  # and background
SIZES = ((300, 300),) * 2
CROWDS = pytest.mark.parametrize(
    "counts", [(3, 5), (4, 0), (0, 0), (130, 101)], ids=["few", "one empty", "all empty", "crowded"]
)


class Both(NamedTuple):
    """Both models and what they said of the same two images, once: a forward pass takes seconds."""

    theirs: nn.Module
    ours: Detector
    outputs: dict[str, Tensor]
    anchors: list[Tensor]
    raw: DensePredictions
    batch: Images


@pytest.fixture(scope="module")
def both() -> Both:
    theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES + 1, _skip_resize=True)
    randomised(theirs, seed=0).eval()
    images = make_images(1, SIZES)
    batch, maps = their_maps(theirs, images)
    for branch in (theirs.head.classification_head, theirs.head.regression_head):
        for layer, level in zip(branch.module_list, maps, strict=True):
            spread_scores(layer, lambda layer=layer, level=level: layer(level))
    ours = exact_normalisation(torchvision_model(num_classes=CLASSES).build())
    ours.load_state_dict(torchvision_to_torso(theirs.state_dict()))
    ours_batch = batch_of(images)
    ours_batch = ours_batch._replace(pixels=ours_batch.pixels[..., :300, :300])
    with torch.no_grad():
        outputs, raw = theirs.head(maps), ours(ours_batch)
    priors = raw.priors._replace(
        **{name: getattr(raw.priors, name).double() for name in ("centers_xy", "sizes_wh", "strides_xy")}
    )
    return Both(theirs, ours, outputs, theirs.anchor_generator(batch, maps), raw._replace(priors=priors), ours_batch)


def test_raw_outputs(both: Both) -> None:
    logits = both.outputs["cls_logits"].roll(-1, dims=-1)  # background is first there
    assert relative_error(both.raw.logits, logits) < 1e-9
    assert relative_error(both.raw.codes, both.outputs["bbox_regression"]) < 1e-9
    assert both.raw.logits.shape[1] == 8732
    torch.testing.assert_close(both.raw.priors.boxes, both.anchors[0], rtol=0, atol=1e-4)


@CROWDS
@pytest.mark.parametrize("seed", [0, 1])
def test_losses_and_their_gradients(both: Both, counts: tuple[int, ...], seed: int) -> None:
    targets = objects(counts, CLASSES, seed, SIZES)
    logits, codes = (x.clone().requires_grad_() for x in (both.raw.logits, both.raw.codes))
    anchors = [both.raw.priors.boxes] * 2  # theirs are float32, ours float64 from here on: compared above
    theirs = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets]
    matched = [torch.full((len(anchors[0]),), -1)] * 2
    for i, target_boxes in enumerate(theirs):
        if len(target_boxes["labels"]):
            matched[i] = both.theirs.proposal_matcher(box_iou(target_boxes["boxes"], anchors[i]))
    outputs = {"cls_logits": logits.roll(1, dims=-1), "bbox_regression": codes}
    want = both.theirs.compute_loss(theirs, outputs, anchors, matched)
    criterion = recipe(num_classes=CLASSES).build().criterion.build()
    terms = criterion.terms(both.raw._replace(logits=logits, codes=codes), padded(targets), both.ours.head)
    names = {"cls": "classification", "box": "bbox_regression"}
    assert_same_losses(terms, want, names, (logits, codes), objects=sum(counts))


def test_detections(both: Both) -> None:
    with torch.no_grad():
        want = both.theirs.postprocess_detections(both.outputs, both.anchors, SIZES)
        found = both.ours.suppression(both.ours.head.decode(both.raw, both.batch))
    for image in want:
        image["labels"] -= 1
    assert_same_detections(found, want, at_least=100)


def test_parameters_of_the_published_model() -> None:
    with torch.device("meta"):
        theirs = ssd300_vgg16(weights=None, weights_backbone=None)
        ours = torchvision_model(num_classes=90).build()
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters()) == 35_641_826


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 tensors are not of torchvision's ssd300.*: head\.roi"):
        torchvision_to_torso({"head.roi": torch.zeros(1)})
