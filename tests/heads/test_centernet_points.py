"""CenterNet's head and model: published sizes, decoding by hand, ties, what is refused, one compiled graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torso.heads.centernet_points import CenterNetPointsHead
from torso.necks.fpn import FPN
from torso.parts import part
from torso.types import FeatureSpec, HeatmapPredictions, Images
from torso.zoo.centernet_points import centernet_points

CLASSES, SIZE_HW = 3, (32, 48)


def head(**arguments: object) -> CenterNetPointsHead:
    torch.manual_seed(0)
    return CenterNetPointsHead([FeatureSpec(16, (4, 4)), FeatureSpec(16, (8, 8))], num_classes=CLASSES, **arguments)


def images(height: int = SIZE_HW[0], width: int = SIZE_HW[1]) -> Images:
    size = torch.tensor([[float(height), float(width)]])
    return Images(torch.zeros(1, 3, height, width), size, torch.tensor([[1.0, 1.0, 0.0, 0.0]]))


def silent() -> HeatmapPredictions:
    """Nothing anywhere: every score rounds to 0."""
    features = [torch.zeros(1, 16, 8, 12), torch.zeros(1, 16, 4, 6)]
    raw = head()(features, images())
    silence = torch.full_like(raw.logits, -200)
    return HeatmapPredictions(silence, torch.zeros_like(raw.offsets), torch.ones_like(raw.sizes), raw.priors)


def with_points(*points: tuple[int, int, int, float]) -> HeatmapPredictions:
    """(x, y, class, logit) on a silent map."""
    raw = silent()
    logits = raw.logits.clone()
    for x, y, label, value in points:
        logits[0, y * 12 + x, label] = value
    return raw._replace(logits=logits)


def test_published_parameter_counts() -> None:
    model = centernet_points(num_classes=80).build()
    counts = [sum(p.numel() for p in m.parameters()) for m in (model.backbone, model.neck, model.head)]
    assert counts == [11_176_512, 2_926_336, 116_244]
    assert sum(counts) == 14_219_092


def test_decoded_by_hand() -> None:
    raw = with_points((5, 3, 2, 1.0))
    raw.offsets[0, 3 * 12 + 5] = torch.tensor([0.25, 0.5])
    raw.sizes[0, 3 * 12 + 5] = torch.tensor([4.0, 2.0])
    found = head().decode(raw, images())
    assert found.scores[0, 0].item() == pytest.approx(torch.tensor(1.0).sigmoid().item())
    assert found.boxes[0, 0].tolist() == [13, 10, 29, 18]  # centre (21, 14), size (16, 8)
    assert found.labels[0, 0] == 2
    assert found.index[0, 0] == 3 * 12 + 5
    assert not found.scores[0, 1:].any()
    assert (found.index[0, 1:] == -1).all()


def test_boxes_are_clipped_and_never_inverted() -> None:
    raw = with_points((0, 0, 0, 1.0), (11, 7, 1, 0.5))
    raw.sizes[0, 0], raw.sizes[0, 7 * 12 + 11] = torch.tensor([6.0, 6.0]), torch.tensor([-3.0, 2.0])
    boxes = head().decode(raw, images()).boxes[0]
    assert boxes[0].tolist() == [0, 0, 12, 12]
    assert boxes[1].tolist() == [44, 24, 44, 32]


def test_only_peaks_of_their_own_class_are_found() -> None:
    points = [(4, 4, 0, 2.0), (5, 4, 0, 1.0), (5, 4, 1, 0.5), (6, 4, 0, 1.5)]  # (5, 4, 0) has higher neighbours
    found = head().decode(with_points(*points), images())
    rows = {(int(i), int(k)) for i, k in zip(found.index[0, :4], found.labels[0, :4], strict=True) if i >= 0}
    assert rows == {(52, 0), (53, 1), (54, 0)}


def test_tied_neighbours_are_all_peaks() -> None:
    found = head().decode(with_points((4, 4, 0, 1.0), (5, 4, 0, 1.0), (5, 5, 0, 0.9)), images())
    assert (found.scores > 0).sum() == 2
    # logits that differ but whose scores round to one float32
    assert (head().decode(with_points((4, 4, 0, 30.0), (5, 4, 0, 31.0)), images()).scores > 0).sum() == 2


def test_top_and_threshold() -> None:
    raw = with_points((2, 2, 0, 2.0), (6, 2, 1, 1.0), (9, 5, 2, -1.0))
    assert head(top=2).decode(raw, images()).scores.shape == (1, 2)
    assert (head(score_threshold=0.5).decode(raw, images()).scores > 0).sum() == 2
    assert head(top=10_000).decode(raw, images()).scores.shape == (1, 8 * 12 * CLASSES)


def test_first_scores_are_the_prior_probability() -> None:
    raw = head(prior_probability=0.1)([torch.zeros(1, 16, 8, 12), torch.zeros(1, 16, 4, 6)], images())
    assert raw.logits.sigmoid().mean().item() == pytest.approx(0.1, abs=0.02)
    assert raw.sizes.abs().max() == 0


def test_only_the_finest_level_of_a_pyramid_is_used() -> None:
    model = centernet_points(num_classes=CLASSES).with_args(neck=part(FPN, finest=4, coarsest=64, channels=16)).build()
    found = model.eval().detect(images(64, 96))
    assert found.boxes.shape == (1, 100, 4)


def test_a_missing_level_is_named_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"needs a level of stride 4; .*\[8, 16\]: set head.finest=8"):
        CenterNetPointsHead([FeatureSpec(16, (8, 8)), FeatureSpec(16, (16, 16))], num_classes=CLASSES)
    with pytest.raises(ValueError, match="odd"):
        head(peak_kernel=2)
    with pytest.raises(ValueError, match="num_classes: expected a whole number of at least 1, got 0"):
        CenterNetPointsHead([FeatureSpec(16, (4, 4))], num_classes=0)


@pytest.mark.parametrize("size_hw", [(32, 48), (35, 61)])
def test_odd_sizes(size_hw: tuple[int, int]) -> None:
    h, w = (-(-v // 4) for v in size_hw)
    part_ = head()
    raw = part_([torch.randn(1, 16, h, w), torch.randn(1, 16, -(-h // 2), -(-w // 2))], images(*size_hw))
    assert raw.logits.shape == (1, h * w, CLASSES)
    assert raw.priors.centers_xy[w + 2].tolist() == [8, 4]
    boxes = part_.decode(raw, images(*size_hw)).boxes
    assert boxes.min() >= 0
    assert (boxes <= torch.tensor([size_hw[1], size_hw[0]] * 2)).all()


def test_classes_lie_in_the_heatmaps_last_convolution() -> None:
    with_classes = [n for n, _ in head().named_parameters() if head().class_rows(n) is not None]
    assert with_classes == ["heat.1.weight", "heat.1.bias"]


def test_forward_and_decode_compile_to_one_graph() -> None:
    module = head(top=10).eval()

    def run(*features: Tensor) -> tuple[Tensor, ...]:
        return tuple(module.decode(module(list(features), images()), images())[:4])

    features = torch.randn(1, 16, 8, 12), torch.randn(1, 16, 4, 6)
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    for ours, eager in zip(compiled(*features), run(*features), strict=True):
        torch.testing.assert_close(ours, eager)
