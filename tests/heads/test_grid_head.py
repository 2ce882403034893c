"""YOLOv1's head: shapes, what each number means, any image size."""

from __future__ import annotations

import pytest
import torch

from torso.heads.grid import GridHead
from torso.types import FeatureSpec, GridPredictions, Images

SPECS = [FeatureSpec(8, (32, 32))]


def head(**more: object) -> GridHead:
    torch.manual_seed(0)
    return GridHead(SPECS, **{"num_classes": 3, "grid_hw": (2, 3), "channels": 8, "hidden": 16, **more}).eval()


def images(height: int = 128, width: int = 192) -> Images:
    size = torch.tensor([[float(height), float(width)]])
    return Images(torch.zeros(1, 3, height, width), size, torch.ones(1, 4))


def test_shapes_and_priors() -> None:
    raw = head()([torch.randn(1, 8, 4, 6)], images())
    assert (raw.scores.shape, raw.confidences.shape, raw.codes.shape) == ((1, 6, 3), (1, 12), (1, 12, 4))
    assert raw.priors.levels == ((2, 3, 2),)
    assert raw.priors.centers_xy[::2].tolist() == [[32, 32], [96, 32], [160, 32], [32, 96], [96, 96], [160, 96]]
    assert raw.priors.sizes_wh[5].tolist() == [192, 128]


def test_a_box_by_hand() -> None:
    """Box 1 of cell (row 1, column 2): a quarter into the cell, half as wide and a quarter as high as the image."""
    h = head(score_threshold=0.1)
    raw = h([torch.randn(1, 8, 4, 6)], images())
    scores, confidences, codes = torch.zeros(1, 6, 3), torch.zeros(1, 12), torch.zeros(1, 12, 4)
    scores[0, 5] = torch.tensor([0.5, 1.5, -1.0])
    confidences[0, 11], codes[0, 11] = 0.8, torch.tensor([0.25, 0.5, 0.5**0.5, 0.5])
    found = h.decode(GridPredictions(scores, confidences, codes, raw.priors), images())
    kept = found.scores[0] > 0
    assert found.scores[0, kept].tolist() == pytest.approx([0.8, 0.4])
    assert found.labels[0, kept].tolist() == [1, 0]
    assert found.index[0, kept].tolist() == [11, 11]
    center, half = (128 + 16.0, 64 + 32.0), (48.0, 16.0)
    box = [center[0] - half[0], center[1] - half[1], center[0] + half[0], center[1] + half[1]]
    assert found.boxes[0, 0].tolist() == pytest.approx(box)


def test_any_image_size_is_divided_into_the_same_cells() -> None:
    raw = head()([torch.randn(1, 8, 5, 3)], images(160, 96))
    assert raw.scores.shape == (1, 6, 3)
    assert raw.priors.strides_xy[0].tolist() == [32, 80]


def test_the_paper_output_has_1470_numbers() -> None:
    with torch.device("meta"):
        h = GridHead([FeatureSpec(1024, (32, 32))], num_classes=20)
    assert h.cls_out.out_features + h.box_out.out_features == 1470


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        head(boxes=0)
