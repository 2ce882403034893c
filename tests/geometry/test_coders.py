"""Coders: encode and decode are inverses, variances follow the boxes, half precision is not computed in half."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torso.geometry.coders._base import Coder
from torso.geometry.coders.delta import DeltaCoder
from torso.geometry.coders.distribution import DistributionCoder
from torso.geometry.coders.fastestdet import FastestDetCoder
from torso.geometry.coders.grid import GridCoder
from torso.geometry.coders.ltrb import LTRBCoder
from torso.geometry.coders.yolo import YOLOCoder
from torso.parts import find, names
from torso.types import Priors

BOUND = ("distribution", "fastestdet", "yolo")  # these say boxes about their cell only, and are tested below
CODERS: list[Coder] = [
    *(find(n, "coders")() for n in names("coders") if n not in BOUND),
    DeltaCoder(weights=(10.0, 10.0, 5.0, 5.0)),
    LTRBCoder(transform="relu"),
    LTRBCoder(transform="none"),
]


def name(coder: Coder) -> str:
    return f"{type(coder).__name__}-{getattr(coder, 'transform', getattr(coder, 'weights', ''))}"


def prior(x: float, y: float, w: float, h: float, stride: float) -> Priors:
    return Priors(torch.tensor([[x, y]]), torch.tensor([[w, h]]), torch.tensor([[stride, stride]]), ((1, 1, 1),))


side = st.floats(1.0, 400.0, width=32)
anchor_side = st.floats(16.0, 400.0, width=32)  # Delta says boxes of up to 62.5 sides
place = st.floats(-500.0, 1500.0, width=32)


@pytest.mark.parametrize("coder", CODERS, ids=name)
@settings(max_examples=60, deadline=None)
@given(x=place, y=place, aw=anchor_side, ah=anchor_side, left=side, top=side, right=side, bottom=side)
def test_decode_inverts_encode(
    coder: Coder, x: float, y: float, aw: float, ah: float, left: float, top: float, right: float, bottom: float
) -> None:
    p = prior(x, y, aw, ah, 8.0)
    box = torch.tensor([[x - left, y - top, x + right, y + bottom]])  # the point lies inside: every code can say it
    torch.testing.assert_close(coder.decode(coder.encode(box, p), p), box, rtol=1e-4, atol=2e-2)


@pytest.mark.parametrize("coder", CODERS, ids=name)
@settings(max_examples=40, deadline=None)
@given(codes=st.tuples(*[st.floats(0.0625, 2.0, width=32)] * 4))
def test_encode_inverts_decode(coder: Coder, codes: tuple[float, ...]) -> None:
    p = prior(40.0, 30.0, 24.0, 48.0, 16.0)
    code = torch.tensor([codes])
    torch.testing.assert_close(coder.encode(coder.decode(code, p), p), code, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("coder", CODERS, ids=name)
def test_variance_follows_the_boxes_of_drawn_codes(coder: Coder) -> None:
    p = prior(100.0, 80.0, 32.0, 64.0, 8.0)
    code = torch.tensor([[0.3, 0.2, 0.4, 0.5]], dtype=torch.float64)
    variance = torch.tensor([[1e-4, 4e-4, 2e-4, 3e-4]], dtype=torch.float64)
    noise = torch.randn(200_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = coder.decode(code + noise * variance.sqrt(), p)
    got = coder.decode_variance(variance, code, p)
    torch.testing.assert_close(got[0], boxes.var(0), rtol=0.02, atol=0)


@pytest.mark.parametrize("coder", CODERS, ids=name)
def test_half_precision_codes_are_decoded_in_float32(coder: Coder) -> None:
    p = prior(1003.0, 1001.0, 37.0, 53.0, 8.0)
    code = torch.tensor([[0.125, 0.25, 0.5, 0.375]])
    out = coder.decode(code.half(), p)
    assert out.dtype == torch.float32
    assert torch.equal(out, coder.decode(code, p))


@pytest.mark.parametrize("coder", CODERS, ids=name)
def test_wild_codes_and_degenerate_boxes_stay_finite(coder: Coder) -> None:
    p = prior(10.0, 10.0, 32.0, 32.0, 8.0)
    code = torch.tensor([[0.0, 0.0, 1000.0, 1000.0], [1000.0, -1000.0, 1000.0, -1000.0]], requires_grad=True)
    out = coder.decode(code, p)
    out.sum().backward()
    assert out.isfinite().all()
    assert code.grad is not None
    assert code.grad.isfinite().all()
    assert coder.encode(torch.tensor([[5.0, 5, 5, 5], [9, 9, 1, 1]]), p).isfinite().all()


def test_delta_by_hand() -> None:
    p = prior(50.0, 40.0, 20.0, 10.0, 8.0)
    box = torch.tensor([[50.0, 37.0, 70.0, 57.0]])  # centre (60, 47), 20 x 20
    want: Tensor = torch.tensor([[0.5, 0.7, 0.0, math.log(2)]])
    torch.testing.assert_close(DeltaCoder().encode(box, p), want)
    weighted = DeltaCoder(weights=(10.0, 10.0, 5.0, 5.0)).encode(box, p)
    torch.testing.assert_close(weighted, want * torch.tensor([10.0, 10, 5, 5]))
    huge = DeltaCoder().decode(torch.tensor([[0.0, 0, 99, 0]]), p)
    assert float(huge[0, 2] - huge[0, 0]) == pytest.approx(20 * 1000 / 16)


def test_ltrb_by_hand() -> None:
    p = prior(12.0, 12.0, 8.0, 8.0, 8.0)
    box = torch.tensor([[4.0, 8.0, 20.0, 28.0]])
    torch.testing.assert_close(LTRBCoder(transform="none").encode(box, p), torch.tensor([[1.0, 0.5, 1.0, 2.0]]))
    torch.testing.assert_close(LTRBCoder().encode(box, p), torch.tensor([[1.0, 0.5, 1.0, 2.0]]).log())
    negative = LTRBCoder(transform="relu").decode(torch.tensor([[-1.0, 1, 1, -1]]), p)
    assert negative.tolist() == [[12.0, 4.0, 20.0, 12.0]]


def test_delta_refuses_weights_that_cannot_be_undone() -> None:
    with pytest.raises(
        ValueError,
        match=r"weights: expected 4 values \(a number above 0, a number above 0,.*, got \(1\.0, 0\.0, 1\.0, 1\.0\)",
    ):
        DeltaCoder(weights=(1.0, 0.0, 1.0, 1.0))


V4 = ((8, 1.2), (16, 1.1))
YOLOS = [YOLOCoder(), YOLOCoder(scale_xy=V4), YOLOCoder(scale_xy=2.0, size="square")]


def yolo_name(coder: YOLOCoder) -> str:
    return f"{coder.scale_xy}-{coder.size}"


@pytest.mark.parametrize("coder", YOLOS, ids=yolo_name)
@pytest.mark.parametrize("corner", [0.0, 0.5])
@settings(max_examples=60, deadline=None)
@given(x=st.floats(0.01, 0.99), y=st.floats(0.01, 0.99), w=st.floats(0.05, 3.9), h=st.floats(0.05, 3.9))
def test_yolo_codes_are_inverses_within_their_cell(
    coder: YOLOCoder, corner: float, x: float, y: float, w: float, h: float
) -> None:
    p = prior(8 * (5 + corner), 8 * (3 + corner), 24.0, 40.0, 8.0)  # column 5, row 3, wherever in the cell it stands
    cx, cy, half_w, half_h = 8 * (5 + x), 8 * (3 + y), 12 * w, 20 * h
    box = torch.tensor([[cx - half_w, cy - half_h, cx + half_w, cy + half_h]])
    code = coder.encode(box, p)
    torch.testing.assert_close(coder.decode(code, p), box, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(coder.encode(coder.decode(code, p), p), code, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("coder", YOLOS, ids=yolo_name)
def test_yolo_variance_and_extremes(coder: YOLOCoder) -> None:
    test_variance_follows_the_boxes_of_drawn_codes(coder)
    p = prior(12.0, 12.0, 32.0, 32.0, 8.0)
    code = torch.tensor([[1e4, -1e4, 1e4, -1e4], [0.0, 0.0, 1e4, 1e4]], requires_grad=True)
    out = coder.decode(code, p)
    out.sum().backward()
    assert out.isfinite().all()
    assert code.grad is not None
    assert code.grad.isfinite().all()
    assert coder.encode(torch.tensor([[5.0, 5, 5, 5], [99, 99, 1, 1]]), p).isfinite().all()
    half = torch.tensor([[0.125, 0.25, 0.5, 0.375]])
    assert torch.equal(coder.decode(half.half(), p), coder.decode(half, p))


def test_yolo_by_hand() -> None:
    """Column 2, row 1 of stride 16, anchor 20 x 40, at the publications' formulas."""
    p = prior(40.0, 24.0, 20.0, 40.0, 16.0)
    code = torch.tensor([[math.log(3), 0.0, math.log(2), 0.0]])  # sigmoid 3/4, 1/2
    centre = (2.75 * 16, 1.5 * 16)
    want = [centre[0] - 20, centre[1] - 20, centre[0] + 20, centre[1] + 20]
    assert YOLOCoder().decode(code, p)[0].tolist() == pytest.approx(want)
    # YOLOv4 at 1.1: 0.75 becomes 0.775
    assert float(YOLOCoder(scale_xy=V4).decode(code, p)[0, [0, 2]].mean()) == pytest.approx(16 * 2.775)
    # YOLOv5: 2 * 0.75 - 0.5 = 1; (2 * 2/3)^2 * 20 wide, (2 * 1/2)^2 * 40 high
    box = YOLOCoder(scale_xy=2.0, size="square").decode(code, p)[0]
    assert float(box[[0, 2]].mean()) == pytest.approx(48)
    assert float(box[2] - box[0]) == pytest.approx(20 * 16 / 9)
    assert float(box[3] - box[1]) == pytest.approx(40)


def test_yolo_keeps_other_levels_unscaled() -> None:
    p = prior(40.0, 24.0, 20.0, 40.0, 32.0)
    code = torch.randn(5, 4)
    assert torch.equal(YOLOCoder(scale_xy=V4).decode(code, p), YOLOCoder().decode(code, p))


@settings(max_examples=60, deadline=None)
@given(sides=st.tuples(*[st.floats(0.0, 16.0, width=32)] * 4))
def test_distribution_says_any_side_within_its_reach(sides: tuple[float, ...]) -> None:
    p = prior(200.0, 150.0, 8.0, 8.0, 8.0)
    left, top, right, bottom = (8 * s for s in sides)
    box = torch.tensor([[200 - left, 150 - top, 200 + right, 150 + bottom]])
    coder = DistributionCoder(reg_max=16)
    code = coder.encode(box, p)
    assert code.shape == (1, 68)
    torch.testing.assert_close(coder.decode(code, p), box, rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(coder.bin_targets(box, p)[0], torch.tensor(sides).clamp(max=15.9))


def test_distribution_variance_and_half() -> None:
    p = prior(100.0, 80.0, 8.0, 8.0, 8.0)
    g = torch.Generator().manual_seed(0)
    coder = DistributionCoder(reg_max=4)
    code = torch.randn(1, 20, generator=g, dtype=torch.float64)
    variance = torch.rand(1, 20, generator=g, dtype=torch.float64) * 1e-3
    noise = torch.randn(100_000, 20, generator=g, dtype=torch.float64)
    boxes = coder.decode(code + noise * variance.sqrt(), p)
    torch.testing.assert_close(coder.decode_variance(variance, code, p)[0], boxes.var(0), rtol=0.03, atol=0)
    assert coder.decode(code.half(), p).dtype == torch.float32


def test_grid_by_hand() -> None:
    """A 448 image of 7 x 7 cells: the prior is as large as the image."""
    p = prior(3 * 64 + 32.0, 32.0, 448.0, 448.0, 64.0)
    box = torch.tensor([[208.0 - 56, 48 - 28, 208 + 56, 48 + 28]])
    torch.testing.assert_close(GridCoder().encode(box, p), torch.tensor([[0.25, 0.75, 0.5, math.sqrt(1 / 8)]]))


@pytest.mark.parametrize(
    "wrong",
    [lambda: YOLOCoder(scale_xy=0.9), lambda: DistributionCoder(reg_max=0), lambda: DistributionCoder(margin=-1.0)],
)
def test_coders_refuse_what_cannot_be_undone(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got "):
        wrong()  # type: ignore[operator]


@settings(max_examples=60, deadline=None)
@given(x=st.floats(-0.95, 0.95), y=st.floats(-0.95, 0.95), w=st.floats(0.02, 0.98), h=st.floats(0.02, 0.98))
def test_fastestdet_codes_are_inverses_within_a_stride(x: float, y: float, w: float, h: float) -> None:
    p = prior(80.0, 48.0, 352.0, 288.0, 16.0)
    cx, cy, half_w, half_h = 80 + 16 * x, 48 + 16 * y, 176 * w, 144 * h
    box = torch.tensor([[cx - half_w, cy - half_h, cx + half_w, cy + half_h]])
    code = FastestDetCoder().encode(box, p)
    torch.testing.assert_close(FastestDetCoder().decode(code, p), box, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(
        FastestDetCoder().encode(FastestDetCoder().decode(code, p), p), code, rtol=1e-2, atol=1e-2
    )


def test_fastestdet_by_hand_variance_and_extremes() -> None:
    """tanh(ln 3 / 2) is a half; sigmoid(ln 3) three quarters."""
    p = prior(80.0, 48.0, 352.0, 288.0, 16.0)
    code = torch.tensor([[math.log(3) / 2, 0.0, math.log(3), 0.0]])
    assert FastestDetCoder().decode(code, p)[0].tolist() == pytest.approx([88 - 132, 48 - 72, 88 + 132, 48 + 72])
    test_variance_follows_the_boxes_of_drawn_codes(FastestDetCoder())
    test_wild_codes_and_degenerate_boxes_stay_finite(FastestDetCoder())
    assert FastestDetCoder().encode(torch.tensor([[0.0, 0, 9e3, 9e3]]), p).isfinite().all()
    half = torch.tensor([[0.125, 0.25, 0.5, 0.375]])
    assert torch.equal(FastestDetCoder().decode(half.half(), p), FastestDetCoder().decode(half, p))
