"""Rows of different levels, where a head says them, compete no more than rows of different classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from torso.parts import named, names
from torso.suppression._base import Suppression
from torso.suppression.nms import NMS
from torso.types import Candidates

from .reference import random_candidates

COMPARING = [n for n in names("suppression") if n != "none"]


def built(name: str, *, class_agnostic: bool = False) -> Suppression:
    return named(name, "suppression").with_args(class_agnostic=class_agnostic, max_detections=60).build()


def with_levels(seed: int = 0, classes: int = 3) -> Candidates:
    candidates = random_candidates(seed, 2, 90, classes)
    generator = torch.Generator().manual_seed(seed)
    return candidates._replace(level=torch.randint(0, 4, candidates.labels.shape, generator=generator))


def test_two_boxes_on_one_spot_stay_where_their_levels_differ() -> None:
    box = torch.tensor([[[10.0, 10, 50, 50]] * 2])
    zeros, rows = torch.zeros(1, 2).long(), torch.arange(2)[None]
    pair = Candidates(box, torch.tensor([[0.9, 0.8]]), zeros, rows, level=rows)
    for class_agnostic in (False, True):
        nms = NMS(class_agnostic=class_agnostic)
        assert nms(pair).index[0, :3].tolist() == [0, 1, -1]
        assert nms(pair).level[0, :2].tolist() == [0, 1]
        assert nms(pair._replace(level=zeros)).index[0, :3].tolist() == [0, -1, -1]
        assert nms(pair._replace(level=None)).index[0, :3].tolist() == [0, -1, -1]
    labels = torch.tensor([[0, 1]])
    assert NMS()(pair._replace(level=zeros, labels=labels)).index[0, :3].tolist() == [0, 1, -1]


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_levels_are_to_every_suppression_what_classes_are(name: str, class_agnostic: bool) -> None:
    apart = with_levels()
    own = apart.level if class_agnostic else apart.labels * 4 + apart.level
    found = built(name, class_agnostic=class_agnostic)(apart)
    wanted = built(name)(apart._replace(labels=own, level=None))
    assert torch.equal(found.index, wanted.index)
    assert torch.equal(found.boxes, wanted.boxes)
    assert torch.equal(found.scores, wanted.scores)
    real = found.scores > 0
    assert torch.equal((found.level if class_agnostic else found.labels * 4 + found.level)[real], wanted.labels[real])
    together = built(name, class_agnostic=class_agnostic)(apart._replace(level=None))
    assert not (torch.equal(found.scores, together.scores) and torch.equal(found.boxes, together.boxes))


class _Model(nn.Module):
    def __init__(self, suppression: Suppression) -> None:
        super().__init__()
        self.suppression = suppression

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor, variance: Tensor, level: Tensor) -> Candidates:
        return self.suppression(Candidates(boxes, scores, labels, torch.zeros_like(labels), variance, level))


@pytest.mark.parametrize("name", ["nms", "softer_nms"])
def test_compiles_without_a_break_and_exports(name: str) -> None:
    apart = with_levels()
    given = (*apart[:3], apart.variance, apart.level)
    model = _Model(built(name))
    expected = model(*given)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(*given), expected)
    if name == "nms":
        torch.testing.assert_close(torch.export.export(model, given).module()(*given), expected)
