"""YOLOv4's criterion, as its recipe writes it, against the rules of darknet's yolo layer in plain Python."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from training.criteria.darknet import Box, iou, sigmoid, targets_of

from torso.training.criteria._base import loss_of
from torso.training.criteria.dense import DenseCriterion
from torso.training.recipes.yolov4 import yolov4
from torso.types import DensePredictions, FeatureSpec

# yolov4.cfg: strides, anchors (px), scale_x_y, iou_thresh, ignore_thresh; 2.4 as the recipe explains
LEVELS = (
    (8, ((12, 16), (19, 36), (40, 28)), 1.2),
    (16, ((36, 75), (76, 55), (72, 146)), 1.1),
    (32, ((142, 110), (192, 243), (459, 401)), 1.05),
)
SHAPES = [wh for _, anchors, _ in LEVELS for wh in anchors]
ALSO, IGNORE, BOX, CLASSES, SIDE = 0.213, 0.7, 2.4, 3, 64


class Place(NamedTuple):
    """One anchor in one cell of one level."""

    level: int
    row: int
    column: int
    anchor: int

    def box(self, code: list[float]) -> Box:
        stride, anchors, scale = LEVELS[self.level]
        x, y = (scale * sigmoid(t) - (scale - 1) / 2 for t in code[:2])
        w, h = (a * math.exp(t) for a, t in zip(anchors[self.anchor], code[2:], strict=True))
        return Box((self.column + x) * stride, (self.row + y) * stride, w, h)


PLACES = [
    Place(level, row, column, anchor)
    for level, (stride, anchors, _) in enumerate(LEVELS)
    for row in range(SIDE // stride)
    for column in range(SIDE // stride)
    for anchor in range(len(anchors))
]
# of each image; the first one's are like several anchors, the second one's share a place
TRUTHS = (
    (Box(21, 33, 30, 40, 2), Box(44, 20, 9, 14, 0)),
    (Box(10, 50, 14, 18, 1), Box(13, 52, 12, 20, 2)),
)


def test_yolo_v4_as_darknets_yolo_layer_sums_it() -> None:
    recipe = yolov4(num_classes=CLASSES)
    head = recipe.get("model").get("head").build([FeatureSpec(8, (stride, stride)) for stride, _, _ in LEVELS])
    criterion: DenseCriterion = recipe.get("criterion").build()
    codes, quality, logits = predicted()
    priors = head.priors([(SIDE // stride, SIDE // stride) for stride, _, _ in LEVELS], (SIDE, SIDE))
    terms = criterion.terms(DensePredictions(logits, codes, priors, quality), targets_of(TRUTHS), head)
    loss_of(terms)[0].backward()

    owners = [owned(instances) for instances in TRUTHS]
    assert [len(one) for one in owners] == [5, 3]  # extra anchors, and of two targets at one location the last
    wanted = {"cls": 0.0, "box": 0.0, "objectness": 0.0}
    quality_slopes, ignored = torch.zeros_like(quality), 0
    for i, (instances, mine) in enumerate(zip(TRUTHS, owners, strict=True)):
        for n, place in enumerate(PLACES):
            box, raw = place.box(codes[i, n].tolist()), float(quality[i, n].detach())
            if n in mine:
                wanted["box"] += BOX * (1 - ciou(box, mine[n]))
                wanted["cls"] += sum(entropy(v, k == mine[n].label) for k, v in enumerate(logits[i, n].tolist()))
            elif max(iou(box, target_boxes) for target_boxes in instances) > IGNORE:
                ignored += 1
                continue
            wanted["objectness"] += entropy(raw, n in mine)
            quality_slopes[i, n] = (sigmoid(raw) - (n in mine)) / 2
    assert ignored == 1
    assert set(terms) == set(wanted)
    for name, term in terms.items():
        assert float(term.total.detach()) == pytest.approx(wanted[name], rel=1e-4), name
        assert float(term.count) == 2  # darknet divides its learning rate by the batch
    torch.testing.assert_close(quality.grad, quality_slopes.detach(), rtol=1e-4, atol=1e-6)


def predicted() -> tuple[Tensor, Tensor, Tensor]:
    """Leaves [2, N, 4], [2, N], [2, N, CLASSES]; in the first image one row that has no target shows one well."""
    generator = torch.Generator().manual_seed(0)
    codes, logits = (torch.randn(2, len(PLACES), width, generator=generator) * 0.4 for width in (4, CLASSES))
    quality = torch.randn(2, len(PLACES), generator=generator)
    beside = PLACES.index(Place(0, 3, 2, 1))  # the cell above the first target's
    codes[0, beside] = torch.tensor([0.5, 4.0, math.log(30 / 19), math.log(40 / 36)])
    return codes.requires_grad_(), quality.requires_grad_(), logits.requires_grad_()


def owned(instances: tuple[Box, ...]) -> dict[int, Box]:
    """The target of each row that learns one: the anchor most like it, and all that are like it enough."""
    owners: dict[int, Box] = {}
    for target_boxes in instances:
        fits = [iou(Box(0, 0, w, h), target_boxes._replace(x=0, y=0)) for w, h in SHAPES]
        for number, fit in enumerate(fits):
            if fit > ALSO or fit == max(fits):
                level, anchor = divmod(number, 3)
                stride = LEVELS[level][0]
                owners[
                    PLACES.index(Place(level, int(target_boxes.y // stride), int(target_boxes.x // stride), anchor))
                ] = target_boxes
    return owners


def ciou(a: Box, b: Box) -> float:
    """IoU less the centres' distance as shares of the enclosing diagonal, less how the ratios differ (1911.08287)."""
    width = max(a.x + a.w / 2, b.x + b.w / 2) - min(a.x - a.w / 2, b.x - b.w / 2)
    height = max(a.y + a.h / 2, b.y + b.h / 2) - min(a.y - a.h / 2, b.y - b.h / 2)
    apart = ((a.x - b.x) ** 2 + (a.y - b.y) ** 2) / (width**2 + height**2)
    ratio = 4 / math.pi**2 * (math.atan(b.w / b.h) - math.atan(a.w / a.h)) ** 2
    return iou(a, b) - apart - ratio**2 / (1 - iou(a, b) + ratio)


def entropy(logit: float, present: bool) -> float:
    return -math.log(sigmoid(logit) if present else 1 - sigmoid(logit))
