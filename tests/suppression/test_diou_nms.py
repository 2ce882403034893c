"""DIoU-NMS: the greedy reference with and without YOLOv4's exponent, and what sets it apart from IoU."""

from __future__ import annotations

import pytest
import torch

from torso.suppression.diou_nms import DIoUNMS
from torso.suppression.nms import NMS
from torso.types import Candidates

from . import reference
from .cases import cases


@pytest.mark.parametrize("beta", [1.0, 0.6])
@pytest.mark.parametrize("name", cases())
def test_equals_the_greedy_reference(name: str, beta: float) -> None:
    candidates = cases()[name]
    found = DIoUNMS(iou_threshold=0.2, beta=beta, max_detections=150)(candidates)
    for image in range(len(candidates.scores)):
        boxes, scores, labels = (field[image].numpy() for field in candidates[:3])
        kept = reference.nms(boxes, scores, labels, threshold=0.2, overlap=reference.diou_with(beta))
        assert torch.equal(found.index[image, : len(kept)], candidates.index[image, kept])
        assert (found.index[image, len(kept) :] == -1).all()


def test_spares_a_neighbour_whose_centre_lies_apart() -> None:
    """IoU 1/3, centres 5 apart under a hull of 15 x 10: d^2 / c^2 = 25 / 325, and 0.2146 to the power of 0.6."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [5, 0, 15, 10]]])
    rows = torch.arange(2).unsqueeze(0)
    pair = Candidates(boxes, torch.tensor([[0.9, 0.8]]), torch.zeros_like(rows), rows)
    assert NMS(iou_threshold=0.3)(pair).scores.count_nonzero() == 1
    assert DIoUNMS(iou_threshold=0.3)(pair).scores.count_nonzero() == 2
    assert DIoUNMS(iou_threshold=1 / 3 - 25 / 325 - 1e-3)(pair).scores.count_nonzero() == 1
    stronger = 1 / 3 - (25 / 325) ** 0.6
    assert DIoUNMS(iou_threshold=stronger - 1e-3, beta=0.6)(pair).scores.count_nonzero() == 1
    assert DIoUNMS(iou_threshold=stronger + 1e-3, beta=0.6)(pair).scores.count_nonzero() == 2


def test_is_nms_with_diou_and_refuses_a_bad_exponent() -> None:
    candidates = cases()["random, three classes"]
    for mine, other in zip(DIoUNMS()(candidates)[:5], NMS(overlap="diou")(candidates)[:5], strict=True):
        assert torch.equal(mine, other)
    with pytest.raises(ValueError, match="above 0"):
        DIoUNMS(beta=0.0)
