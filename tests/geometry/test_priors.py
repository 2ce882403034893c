"""Priors: the golden anchors of the reference implementations, the order of rows, odd strides, half precision."""

from __future__ import annotations

import pytest
import torch

from torso.geometry.priors._base import PriorGenerator, gather_priors, level_of_rows
from torso.geometry.priors.anchors import Anchors
from torso.geometry.priors.points import Points
from torso.geometry.priors.shapes import Shapes
from torso.geometry.priors.ssd import SSDAnchors
from torso.parts import find, names


def test_golden_anchors_of_retinanet() -> None:
    boxes = Anchors([(8, 8)], base_scale=4.0, octave_scales=3, ratios=(0.5, 1.0, 2.0))([(1, 1)], (8, 8)).boxes
    want = [
        [-22.6274, -11.3137],
        [-28.5088, -14.2544],
        [-35.9188, -17.9594],
        [-16, -16],
        [-20.1587, -20.1587],
        [-25.3984, -25.3984],
        [-11.3137, -22.6274],
        [-14.2544, -28.5088],
        [-17.9594, -35.9188],
    ]
    torch.testing.assert_close(boxes[:, :2], torch.tensor(want), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(boxes[:, 2:], -boxes[:, :2])


def test_rounded_anchors_of_torchvision() -> None:
    boxes = Anchors([(8, 8)], sizes=((32.0, 40.0, 50.0),), rounded=True)([(1, 1)], (8, 8)).boxes
    assert boxes[0].tolist() == [-23.0, -11.0, 23.0, 11.0]
    assert boxes[2].tolist() == [-35.0, -18.0, 35.0, 18.0]


@pytest.mark.parametrize("name", names("priors"))
def test_rows_run_level_y_x_prior(name: str) -> None:
    generator: PriorGenerator = find(name, "priors")([(8, 16), (16, 32)])
    p = generator([(3, 2), (2, 1)], (24, 32))
    assert p.centers_xy.shape == p.sizes_wh.shape == p.strides_xy.shape
    assert sum(p.level_sizes) == p.centers_xy.shape[0]
    assert [x[:2] for x in p.levels] == [(3, 2), (2, 1)]
    offset = 0
    first = p.centers_xy[0]
    for level, (h, w, a) in enumerate(p.levels):
        for y in range(h):
            for x in range(w):
                for k in range(a):
                    row = offset + (y * w + x) * a + k
                    stride = torch.tensor([16.0, 8.0]) * 2**level
                    assert torch.equal(p.strides_xy[row], stride)
                    want = (first / torch.tensor([16.0, 8.0]) + torch.tensor([float(x), float(y)])) * stride
                    assert torch.equal(p.centers_xy[row], want)
        offset += h * w * a
    assert torch.bincount(level_of_rows(p)).tolist() == p.level_sizes
    assert p.boxes.shape == (offset, 4)
    torch.testing.assert_close((p.boxes[:, :2] + p.boxes[:, 2:]) / 2, p.centers_xy)


@pytest.mark.parametrize("name", names("priors"))
def test_half_precision_does_not_round_them(name: str) -> None:
    plain = find(name, "priors")([(8, 8)])([(2, 2)], (16, 16))
    generator = find(name, "priors")([(8, 8)]).half()
    for a, b in zip(generator([(2, 2)], (16, 16))[:3], plain[:3], strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


def test_points_are_boxes_of_side_stride() -> None:
    p = Points([(8, 8)])([(1, 2)], (8, 16))
    assert p.centers_xy.tolist() == [[4.0, 4.0], [12.0, 4.0]]
    assert p.boxes.tolist() == [[0.0, 0, 8, 8], [8, 0, 16, 8]]
    assert Points([(8, 8)], offset=0.0)([(1, 2)], (8, 16)).centers_xy.tolist() == [[0.0, 0.0], [8.0, 0.0]]


def test_stride_from_the_image_moves_centres_apart_where_a_map_was_rounded_up() -> None:
    for kind in (Points([(128, 128)], offset=0.0, stride_from="image"), Anchors([(128, 128)], stride_from="image")):
        p = kind([(2, 2)], (160, 192))
        assert p.centers_xy[-1].tolist() == [96.0, 80.0]
        assert p.sizes_wh[0].tolist() == kind([(1, 1)], (128, 128)).sizes_wh[0].tolist()


def test_gather_takes_rows_of_shared_and_of_own_priors() -> None:
    p = Points([(8, 8)])([(2, 3)], (16, 24))
    rows = torch.tensor([[5, 0], [1, 1]])
    shared = gather_priors(p, rows)
    assert torch.equal(shared.centers_xy[0, 0], p.centers_xy[5])
    own = p._replace(**{f: torch.stack([getattr(p, f), getattr(p, f) + 1]) for f in p._fields[:3]})
    assert torch.equal(gather_priors(own, rows).centers_xy[1], shared.centers_xy[1] + 1)


def test_sizes_must_match_the_levels() -> None:
    with pytest.raises(ValueError, match="has 1 level, but the head reads 2"):
        Anchors([(8, 8), (16, 16)], sizes=((32.0,),))


def test_shapes_are_those_given_and_may_differ_in_number() -> None:
    made = Shapes([(8, 8), (16, 16)], sizes=(((10.0, 13.0), (16.0, 30.0)), ((30.0, 61.0),)))
    p = made([(1, 2), (1, 1)], (8, 16))
    assert p.levels == ((1, 2, 2), (1, 1, 1))
    assert p.sizes_wh.tolist() == [[10, 13], [16, 30], [10, 13], [16, 30], [30, 61]]
    assert p.centers_xy.tolist() == [[4, 4], [4, 4], [12, 4], [12, 4], [8, 8]]
    rounded_up = Shapes([(8, 8)], sizes=(((8.0, 8.0),),), offset=0.0, stride_from="image")([(2, 3)], (20, 30))
    assert rounded_up.centers_xy[-1].tolist() == [20, 10]


@pytest.mark.parametrize("sizes", [(), (((1.0, 2.0),),), ((), ((1.0, 2.0),)), (((0.0, 2.0),), ((1.0, 2.0),))])
def test_shapes_that_fit_no_level_are_refused(sizes: tuple[tuple[tuple[float, float], ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"Shapes\.sizes"):
        Shapes([(8, 8), (16, 16)], sizes=sizes)


def test_default_boxes_of_ssd() -> None:
    """The first of SSD300 on COCO, and what clipping leaves of the last level: sides end at the image's."""
    sizes, ratios = (21.0, 45.0, 99.0), ((2.0,), (2.0, 3.0))
    boxes = SSDAnchors([(8, 8), (16, 16)], sizes=sizes, ratios=ratios)([(2, 2), (1, 1)], (16, 16)).boxes
    want = [
        [-6.5, -6.5, 14.5, 14.5],
        [-11.3704, -11.3704, 19.3704, 19.3704],
        [-10.8492, -3.4246, 18.8492, 11.4246],
        [-3.4246, -10.8492, 11.4246, 18.8492],
    ]
    torch.testing.assert_close(boxes[:4], torch.tensor(want), rtol=0, atol=1e-4)
    assert len(boxes) == 4 * 4 + 6
    clipped = SSDAnchors([(8, 8), (16, 16)], sizes=sizes, ratios=ratios, clip=True)([(2, 2), (1, 1)], (60, 24)).sizes_wh
    assert clipped[:, 0].max() == 24 < clipped[:, 1].max() == 60


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"sizes": (20.0, 40.0)}, "expected 3 sizes and 2 tuples of ratios"),
        ({"ratios": ((2.0,),)}, "expected 3 sizes and 2 tuples of ratios"),
        (
            {"ratios": ((2.0,), (0.5,))},
            r"ratios: expected a list of a list of a number of at least 1 or none, got \(\(2\.0,\), \(0\.5,\)\)",
        ),
    ],
)
def test_default_boxes_that_cannot_be(wrong: dict[str, tuple[float, ...]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SSDAnchors([(8, 8), (16, 16)], **wrong)
