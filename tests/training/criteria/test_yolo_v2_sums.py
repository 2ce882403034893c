"""YOLOv2's criterion, as its recipe writes it, against the rules of darknet's region layer in plain Python."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from training.criteria.darknet import Box, iou, sigmoid, targets_of

from torso.geometry.priors.shapes import Shapes
from torso.parts import part
from torso.training.criteria._base import loss_of
from torso.training.criteria.dense import DenseCriterion
from torso.training.recipes.yolov2 import yolov2
from torso.types import DensePredictions, FeatureSpec

STRIDE, COLUMNS, ROWS, CLASSES = 32, 3, 2, 3
ANCHORS = ((24.0, 20.0), (60.0, 44.0))  # width, height, px
OBJECT, NO_OBJECT, CLASS, COORDINATES, THRESHOLD = 5.0, 1.0, 1.0, 1.0, 0.6  # yolov2.cfg


# of each image; the second one's share a cell and an anchor, which then learns the last
TRUTHS = (
    (Box(40, 20, 30, 24, 2), Box(66, 40, 56, 40, 0)),
    (Box(10, 40, 18, 30, 1), Box(14, 44, 20, 24, 2)),
)


class Prediction(NamedTuple):
    """Of one anchor in one cell: raw numbers, and the box that they say."""

    code: list[float]
    quality: float
    logits: list[float]
    column: int
    row: int
    anchor: int

    @property
    def box(self) -> Box:
        x, y = (self.column + sigmoid(self.code[0])) * STRIDE, (self.row + sigmoid(self.code[1])) * STRIDE
        w, h = (a * math.exp(t) for a, t in zip(ANCHORS[self.anchor], self.code[2:], strict=True))
        return Box(x, y, w, h, -1)


class Learnt(NamedTuple):
    """What an image adds to each term, and what darknet passes back: the slopes of their sum, signs turned."""

    terms: dict[str, float]
    codes: list[list[float]]
    quality: list[float]
    logits: list[list[float]]
    best: list[float]  # IoU of each row that has no target


def test_yolo_v2_as_darknets_region_layer_sums_it() -> None:
    recipe = yolov2(num_classes=CLASSES)
    head_part = recipe.get("model").get("head").with_args(priors=part(Shapes, sizes=(ANCHORS,)), channels=8)
    head = head_part.build([FeatureSpec(8, (STRIDE, STRIDE))])
    criterion: DenseCriterion = recipe.get("criterion").build()
    codes, quality, logits = predicted()
    priors = head.priors([(ROWS, COLUMNS)], (ROWS * STRIDE, COLUMNS * STRIDE))
    terms = criterion.terms(DensePredictions(logits, codes, priors, quality), targets_of(TRUTHS), head)
    loss_of(terms)[0].backward()

    learnt = [region_layer(codes[i].detach(), quality[i].detach(), logits[i].detach(), TRUTHS[i]) for i in range(2)]
    best = [iou for one in learnt for iou in one.best]
    assert any(0.5 < iou < 0.6 for iou in best)  # background
    assert any(0.6 < iou < 0.7 for iou in best)  # ignored
    for name, term in terms.items():
        assert float(term.total.detach()) == pytest.approx(sum(one.terms[name] for one in learnt), rel=1e-4), name
        assert float(term.count) == 2  # darknet divides its learning rate by the batch
    assert set(terms) == set(learnt[0].terms)
    for name, leaf in (("codes", codes), ("quality", quality), ("logits", logits)):
        assert leaf.grad is not None, name
        wanted = torch.tensor([getattr(one, name) for one in learnt])
        torch.testing.assert_close(-2 * leaf.grad, wanted, rtol=1e-4, atol=1e-5)


def predicted() -> tuple[Tensor, Tensor, Tensor]:
    """Leaves [2, N, 4], [2, N], [2, N, CLASSES]; two rows of the first image almost show its second target."""
    n = ROWS * COLUMNS * len(ANCHORS)
    generator = torch.Generator().manual_seed(0)
    codes, logits = (torch.randn(2, n, width, generator=generator) * 0.5 for width in (4, CLASSES))
    quality = torch.randn(2, n, generator=generator)
    aside, low = row_of(1, 1, 1), row_of(2, 1, 0)
    codes[0, aside] = torch.tensor([logit(0.69), logit(0.25), math.log(56 / 60), math.log(40 / 44)])
    codes[0, low] = torch.tensor([logit(2 / 32), logit(8 / 32), math.log(56 / 24), math.log(22 / 20)])
    return codes.requires_grad_(), quality.requires_grad_(), logits.requires_grad_()


def region_layer(codes: Tensor, quality: Tensor, logits: Tensor, instances: tuple[Box, ...]) -> Learnt:
    """One image: first every box as background, then each target writes over what its own anchor was to learn."""
    rows = [
        Prediction(codes[n].tolist(), float(quality[n]), logits[n].tolist(), column, row, anchor)
        for n, (row, column, anchor) in enumerate(
            (y, x, a) for y in range(ROWS) for x in range(COLUMNS) for a in range(len(ANCHORS))
        )
    ]
    owners: dict[int, Box] = {}
    for target_boxes in instances:
        fits = [iou(Box(0, 0, w, h, -1), target_boxes._replace(x=0, y=0)) for w, h in ANCHORS]
        owners[row_of(int(target_boxes.x // STRIDE), int(target_boxes.y // STRIDE), fits.index(max(fits)))] = (
            target_boxes
        )
    found = Learnt({"cls": 0.0, "box": 0.0, "objectness": 0.0}, [], [], [], [])
    for n, one in enumerate(rows):
        score, slope = sigmoid(one.quality), sigmoid(one.quality) * (1 - sigmoid(one.quality))
        if n in owners:
            _own(found, one, owners[n])
            continue
        best = max(iou(one.box, target_boxes) for target_boxes in instances)
        weight = 0.0 if best > THRESHOLD else NO_OBJECT
        found.terms["objectness"] += weight * score**2 / 2
        found.quality.append(weight * (0 - score) * slope)
        found.codes.append([0.0] * 4)
        found.logits.append([0.0] * CLASSES)
        found.best.append(best)
    return found


def _own(found: Learnt, one: Prediction, target_boxes: Box) -> None:
    """The anchor of a target; its box counts 2 less the target's share of the image."""
    score, fit = sigmoid(one.quality), iou(one.box, target_boxes)
    found.terms["objectness"] += OBJECT * (fit - score) ** 2 / 2
    found.quality.append(OBJECT * (fit - score) * score * (1 - score))
    size = COORDINATES * (2 - target_boxes.w * target_boxes.h / (COLUMNS * STRIDE * ROWS * STRIDE))
    x, y = sigmoid(one.code[0]), sigmoid(one.code[1])
    w, h = ANCHORS[one.anchor]
    apart = (
        target_boxes.x / STRIDE - one.column - x,
        target_boxes.y / STRIDE - one.row - y,
        math.log(target_boxes.w / w) - one.code[2],
        math.log(target_boxes.h / h) - one.code[3],
    )
    found.terms["box"] += size * sum(d**2 for d in apart) / 2
    slopes = (x * (1 - x), y * (1 - y), 1.0, 1.0)
    found.codes.append([size * d * s for d, s in zip(apart, slopes, strict=True)])
    total = sum(math.exp(v) for v in one.logits)
    shares = [math.exp(v) / total for v in one.logits]
    found.terms["cls"] -= CLASS * math.log(shares[target_boxes.label])
    found.logits.append([CLASS * ((k == target_boxes.label) - p) for k, p in enumerate(shares)])


def row_of(column: int, row: int, anchor: int) -> int:
    return (row * COLUMNS + column) * len(ANCHORS) + anchor


def logit(share: float) -> float:
    return math.log(share / (1 - share))
