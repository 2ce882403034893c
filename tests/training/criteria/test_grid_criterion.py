"""YOLOv1's criterion against a plain loop over cells, as the paper writes equation 3."""

from __future__ import annotations

import pytest
import torch

from torso.data.targets import Targets
from torso.geometry.boxes import iou_matrix
from torso.heads.grid import GridHead
from torso.models.detector import Detector
from torso.parts import PartError, find
from torso.training.criteria._base import Terms
from torso.training.criteria.grid import GridCriterion
from torso.types import FeatureSpec, GridPredictions, Images

SIDE, CELLS = 96, 3


def case() -> tuple[GridHead, GridPredictions, Targets]:
    """Two images of 3 x 3 cells; the first two targets share a cell, one is a crowd, one padding."""
    torch.manual_seed(0)
    head = GridHead([FeatureSpec(4, (32, 32))], num_classes=3, grid_hw=(CELLS, CELLS), channels=4, hidden=8)
    size = torch.full((2, 2), float(SIDE))
    raw = head([torch.randn(2, 4, 6, 6)], Images(torch.zeros(2, 3, SIDE, SIDE), size, torch.ones(2, 4)))
    g = torch.Generator().manual_seed(1)
    scores, confidences = torch.rand(raw.scores.shape, generator=g), torch.rand(raw.confidences.shape, generator=g)
    codes = torch.rand(raw.codes.shape, generator=g) * 0.8 + 0.1
    codes[1, :, 2:] = 0.01  # boxes too small to overlap: the nearest learns
    boxes = torch.tensor([[8.0, 8, 20, 28], [10, 4, 26, 24], [40, 36, 90, 95], [0, 0, 96, 96]])
    valid = torch.tensor([[True, True, True, True], [False, True, True, True]])
    crowd = torch.tensor([[False, False, False, True]]).repeat(2, 1)
    targets = Targets(boxes.repeat(2, 1, 1), torch.tensor([[2, 1, 0, 1], [0, 1, 2, 1]]), valid, crowd)
    return head, GridPredictions(scores, confidences, codes, raw.priors), targets


def by_loop(raw: GridPredictions, targets: Targets) -> dict[str, float]:
    cls = box = objectness = 0.0
    step = SIDE / CELLS
    for i in range(2):
        learnt: dict[tuple[int, int], int] = {}
        for m, (x1, y1, x2, y2) in enumerate(targets.boxes[i].tolist()):
            cell = (int((y1 + y2) / 2 // step), int((x1 + x2) / 2 // step))
            if targets.valid[i, m] and not targets.crowd[i, m]:
                learnt.setdefault(cell, m)
        for row in range(CELLS):
            for column in range(CELLS):
                cell = row * CELLS + column
                m = learnt.get((row, column))
                said = raw.codes[i, 2 * cell : 2 * cell + 2].double()
                center = (said[:, :2] + torch.tensor([column, row])) / CELLS  # shares of the image
                size = said[:, 2:] ** 2
                best, fit = -1, torch.zeros(2)
                if m is not None:
                    target_boxes = targets.boxes[i, m].double() / SIDE
                    fit = iou_matrix(torch.cat([center - size / 2, center + size / 2], 1), target_boxes[None])[:, 0]
                    middle, extent = (target_boxes[:2] + target_boxes[2:]) / 2, target_boxes[2:] - target_boxes[:2]
                    far = ((center - middle) ** 2).sum(1) + ((size - extent) ** 2).sum(1)
                    best = int(fit.argmax() if fit.max() > 0 else far.argmin())
                    wanted = torch.cat([middle * CELLS - torch.tensor([column, row]), extent.sqrt()])
                    box += 5 * float(((said[best] - wanted) ** 2).sum())
                    one_hot = torch.eye(3)[targets.labels[i, m]]
                    cls += float(((raw.scores[i, cell] - one_hot) ** 2).sum())
                for b in range(2):
                    confidence = float(raw.confidences[i, 2 * cell + b])
                    objectness += (confidence - float(fit[b])) ** 2 if b == best else 0.5 * confidence**2
    return {"cls": cls, "box": box, "objectness": objectness}


def test_the_loss_is_the_papers() -> None:
    head, raw, targets = case()
    got: Terms = GridCriterion().terms(raw, targets, head)
    assert {k: float(t.total) for k, t in got.items()} == pytest.approx(by_loop(raw, targets), rel=1e-5)
    assert all(float(t.count) == 2 for t in got.values())


def test_a_image_without_objects_teaches_confidence_alone() -> None:
    head, raw, targets = case()
    nothing = targets._replace(valid=torch.zeros_like(targets.valid))
    got = GridCriterion().terms(raw, nothing, head)
    assert float(got["objectness"].total) == pytest.approx(0.5 * float(raw.confidences.square().sum()), rel=1e-5)
    assert float(got["cls"].total) == float(got["box"].total) == 0


def test_other_heads_and_negative_weights_are_refused() -> None:
    other: Detector = find("fcos", "zoo")(num_classes=2).override("backbone.name", "test_resnet").build()
    with pytest.raises(PartError, match="but FCOSHead gives DensePredictions: set criterion='dense'"):
        GridCriterion().check(other)
    with pytest.raises(PartError, match="expected 0 or more each"):
        GridCriterion(box_weight=-1)
