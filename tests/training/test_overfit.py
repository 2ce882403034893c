"""Every recipe can learn eight real images by heart: what neither shapes nor single gradients prove."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training.overfitting import (
    FULL_STEPS,
    balanced_images,
    full_recipe,
    overfit,
    proposal_recall,
    small_recipe,
)

from torso.parts import names
from torso.training.compose_recipe import check

NARROW = {"neck.channels": 48, "head.channels": 48}
DENSE = {**NARROW, "head.tower": 1, "head.prior_probability": 0.05}
HALF_ANCHORS = {"head.priors.base_scale": 4.0}  # the images are 0.4 of their size, the smallest objects 12 px

# Steps, and what differs from small_recipe. FCOS has one positive point where RetinaNet has nine anchors: small objects
# take it half the strides and more steps.
SETTINGS: dict[str, tuple[int, dict[str, object]]] = {
    "retinanet": (200, DENSE),
    "fcos": (
        200,
        {
            **DENSE,
            "head.tower": 0,
            "lr": 4e-3,
            "neck.finest": 4,
            "neck.coarsest": 64,
            "head.finest": 4,
            "head.coarsest": 64,
        },
    ),
    "atss": (130, {**DENSE, **HALF_ANCHORS}),
    "centernet_points": (
        100,
        {
            "neck.widths": (64, 48, 48),
            "head.channels": 48,
            "head.prior_probability": 0.05,
            "backbone.frozen_norm": True,  # two images are too few for statistics
        },
    ),
    "faster_rcnn": (
        130,
        {
            "neck.channels": 48,
            "head.channels": 128,
            "head.proposer.channels": 48,
            "head.proposer.priors.base_scale": 4.0,
            "head.proposal_top": 200,
            "head.proposals": 100,
            "criterion.proposal_top": 300,
            "criterion.proposals": 200,
            "criterion.sampler.number": 128,
        },
    ),
}
OWN_BODIES = (  # Extraction, Darknet-19, Darknet-53, CSPDarknet-53, three CSPDarknets, VGG16, two ResNets, EfficientNet
    "yolov1", "yolov2", "yolov3", "yolov4", "yolov5n", "yolox_tiny", "tal_n", "ssd300", "retinanet",
    "centernet_points", "efficientdet_d0",
)  # fmt: skip
RPN: tuple[int, dict[str, object]] = (80, {**NARROW, **HALF_ANCHORS, "suppression.max_detections": 300})


@pytest.mark.slow
@pytest.mark.parametrize("model", SETTINGS)
def test_learns_eight_images_by_heart(shared_data, backbone_weights, tmp_path, model):
    """Tuned for the time: backbone, widths, tower, prior probability, size of the images and with it of the anchors
    (atss, faster_rcnn) or the strides (fcos), numbers of proposals and of sampled rows, centernet's frozen BatchNorm,
    no augmentation, the optimiser's settings and the steps. As in the recipe: losses and weights, assigner,
    thresholds, suppression.
    """
    steps, changes = SETTINGS[model]
    recipe = small_recipe(model, backbone_weights, **changes)
    scores = overfit(recipe, balanced_images(shared_data / "bccd"), steps, tmp_path).scores
    assert scores is not None
    assert scores.AP50 > 0.9, str(scores)


@pytest.mark.slow
def test_rpn_proposes_every_object_of_eight_images(shared_data, backbone_weights, tmp_path):
    """Evaluated on the 100 best of its 300 boxes, which find 4 % of the objects after a single step. Tuned as above."""
    steps, changes = RPN
    images = balanced_images(shared_data / "bccd")
    result = overfit(small_recipe("rpn", backbone_weights, **changes), images, steps, tmp_path)
    recall = proposal_recall(result.weights, images, k=100)
    assert recall > 0.95, f"recall {recall:.3f} at IoU 0.5 with 100 proposals"


@pytest.mark.parametrize("model", names("zoo"))
def test_full_size_recipes_can_be_trained(model):
    """What the next test trains on a GPU is put together on every machine, without memory for weights."""
    check(full_recipe(model, Path("weights of the backbone")))
    check(full_recipe(model, None))


def learnt_on_a_gpu(model: str, weights: Path | None, steps: int, data: Path, run_dir: Path) -> float:
    """AP50 of the eight images, 0..1; of rpn the recall at IoU 0.5 with 100 proposals."""
    images = balanced_images(data / "bccd", grid=7 if model == "yolov1" else None)
    result = overfit(full_recipe(model, weights), images, steps, run_dir, "gpu")
    assert not result.interrupted, "ended by a signal: this says nothing of the model"
    if model == "rpn":
        recall = proposal_recall(result.weights, images, k=100)
        print(f"{model}: recall {recall:.3f} at IoU 0.5 with 100 proposals", flush=True)
        return recall
    assert result.scores is not None
    print(f"{model}: AP50 {result.scores.AP50:.3f}, AP {result.scores.AP:.3f}", flush=True)
    return float(result.scores.AP50)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", names("zoo"))
def test_learns_eight_images_by_heart_at_full_size(shared_data, backbone_weights, tmp_path, model):
    """Every zoo model with its own widths, anchors, losses and thresholds on EfficientNet-Lite0, in bf16.

    YOLOX's boxes begin at 32 pixels at most, and the slope of 1 - IoU^2 vanishes with the IoU: the largest cells, 240
    pixels here, take more steps. YOLOv1 gets as many.
    """
    steps = (2 if model.startswith(("yolox", "yolov1")) else 1) * FULL_STEPS
    found = learnt_on_a_gpu(model, backbone_weights, steps, shared_data, tmp_path)
    assert found > (0.95 if model == "rpn" else 0.9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", OWN_BODIES)
def test_learns_eight_images_by_heart_with_its_own_body(shared_data, tmp_path, model):
    """One member for each body that Lite0 stands in for above, whole and from random."""
    assert learnt_on_a_gpu(model, None, 2 * FULL_STEPS, shared_data, tmp_path) > 0.9
