"""RetinaNet against torchvision's, weights copied: raw outputs, losses and detections."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.detection import _utils, retinanet_resnet50_fpn
from torchvision.ops.misc import FrozenBatchNorm2d
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

from tools.parity.torchvision_recipes import retinanet as recipe
from torso.data.targets import Targets
from torso.models.detector import Detector
from torso.training.assigners.max_iou import MaxIoUAssigner
from torso.zoo._rename import with_own_norms
from torso.zoo.retinanet import torchvision_model, torchvision_to_torso

CLASSES = 7


@pytest.fixture(scope="module")
def both() -> tuple[nn.Module, Detector]:
    theirs = retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=CLASSES, min_size=SIDE, max_size=1000
    )
    randomised(theirs, seed=0)
    theirs.eval()
    head = theirs.head.classification_head
    _, maps = their_maps(theirs, make_images(1))
    spread_scores(head.cls_logits, lambda: head(maps))
    regression = theirs.head.regression_head
    spread_scores(regression.bbox_reg, lambda: regression(maps))
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
    assert [m.shape[-2:] for m in maps][-1] == (1, 1)  # 96 // 1 and 128 // 1, not the stride: the quirk is seen
    assert relative_error(raw.logits, want["cls_logits"]) < 1e-9
    assert relative_error(raw.codes, want["bbox_regression"]) < 1e-9
    assert torch.equal(raw.priors.boxes.double(), anchors)


@CROWDS
@pytest.mark.parametrize("seed", [0, 1])
def test_losses_and_their_gradients(both: tuple[nn.Module, Detector], counts: tuple[int, ...], seed: int) -> None:
    theirs, ours = both
    images, targets = make_images(2), objects(counts, CLASSES, seed)
    batch, maps = their_maps(theirs, images)
    with torch.no_grad():
        raw = ours(batch_of(images))
    anchors = theirs.anchor_generator(batch, maps)
    logits, codes = (x.requires_grad_() for x in (raw.logits, raw.codes))
    outputs = {"cls_logits": logits, "bbox_regression": codes}
    want = theirs.compute_loss(targets, outputs, anchors)
    criterion = recipe(num_classes=CLASSES).build().criterion.build()
    names = {"cls": "classification", "box": "bbox_regression"}
    terms = criterion.terms(raw, padded(targets), ours.head)
    assert_same_losses(terms, want, names, (logits, codes), objects=sum(counts))


@pytest.mark.parametrize("seed", [1, 2])
def test_detections(both: tuple[nn.Module, Detector], seed: int) -> None:
    theirs, ours = both
    images = make_images(seed)
    with torch.no_grad():
        assert_same_detections(ours.detect(batch_of(images)), theirs(images), at_least=20)


def test_a_truth_that_no_anchor_touches_makes_every_anchor_positive_there_and_none_here() -> None:
    """The one difference of the assignment, by intention; with boxes inside the image it cannot occur."""
    matcher = _utils.Matcher(0.5, 0.4, allow_low_quality_matches=True)
    quality = torch.tensor([[0.6, 0.1, 0.0], [0.0, 0.0, 0.0]])
    assert matcher(quality).tolist() == [0, 0, 0]
    model = torchvision_model(num_classes=1).build()
    priors = model.head.priors([(2, 2), (1, 1), (1, 1), (1, 1), (1, 1)], (16, 16))
    boxes = torch.tensor([[[0.0, 0, 40, 40], [5000, 5000, 5010, 5010]]])
    valid = torch.ones(1, 2, dtype=torch.bool)
    target = MaxIoUAssigner()(priors, Targets(boxes, torch.zeros(1, 2, dtype=torch.int64), valid, ~valid)).target
    assert not (target == 1).any()
    assert (target == -1).any()


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 tensors are not of torchvision's retinanet.*: head\.bbox_ctrness"):
        torchvision_to_torso({"head.bbox_ctrness": torch.zeros(1)})


def test_frozen_norms_of_eps_zero_compute_the_same() -> None:
    """The model of the COCO_V1 weights has norms without a counter and with eps 0."""
    frozen = FrozenBatchNorm2d(4, eps=0.0).double()
    for buffer in frozen.buffers():
        buffer.uniform_(0.5, 1.5)
    state = with_own_norms({f"backbone.body.bn1.{k}": v for k, v in frozen.state_dict().items()}, norm_eps=0.0)
    norm = nn.BatchNorm2d(4).double().eval()
    norm.load_state_dict({k.rpartition(".")[2]: v for k, v in state.items()})
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(norm(x), frozen(x), rtol=1e-12, atol=1e-12)
