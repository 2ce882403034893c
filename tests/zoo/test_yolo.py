"""The YOLO line: published parameters and operations to the last digit, anchors and boxes as published."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from torso.models.detector import Detector
from torso.parts import find, part
from torso.summary import summarise
from torso.types import FeatureSpec, Images

# parameters of the layers of darknet's cfg files, and G operations at these sizes as pjreddie.com/darknet/yolo has them
# (YOLOv4: multiply-adds, counted from its cfg file)
DARKNET = [
    ("yolov2", 50_962_889, {608: "62.94"}, 1),
    ("yolov3", 61_949_149, {320: "38.97", 416: "65.86", 608: "140.69"}, 1),
    ("yolov3_spp", 62_998_749, {608: "141.45"}, 1),
    ("yolov4", 64_363_101, {416: "30.05", 512: "45.52", 608: "64.19"}, 2),
]


@pytest.mark.parametrize(("name", "parameters", "sizes", "operations"), DARKNET, ids=[d[0] for d in DARKNET])
def test_darknet(name: str, parameters: int, sizes: dict[int, str], operations: int) -> None:
    for side, published in sizes.items():
        summary = summarise(find(name, "zoo")(), (side, side))
        assert summary.parameters == parameters
        assert f"{summary.flops / operations / 1e9:.2f}" == published


# name: parameters in M, G operations, operations that were counted beside the convolutions': for each element that a
# convolution gives (YOLOv5: norms are folded into it, and the bias counts a multiply-add), or that a norm gives (thop's
# count, two multiply-adds in the YOLOX authors' version, four in that of the v8 line)
PUBLISHED = {
    "yolov5n": ("1.9", "4.5"),
    "yolov5s": ("7.2", "16.5"),
    "yolov5m": ("21.2", "49.0"),
    "yolov5l": ("46.5", "109.1"),
    "yolov5x": ("86.7", "205.7"),
    "yolox_tiny": ("5.06", "6.45"),
    "yolox_s": ("9.0", "26.8"),
    "yolox_m": ("25.3", "73.8"),
    "yolox_l": ("54.2", "155.6"),
    "tal_n": ("3.16", "8.9"),
    "tal_s": ("11.2", "28.8"),
    "tal_m": ("25.9", "79.3"),
    "tal_l": ("43.7", "165.7"),
    "tal_x": ("68.2", "258.5"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameters_and_operations(name: str) -> None:
    model, operations, by_convolutions, by_norms = counted(name)
    parameters = sum(p.numel() for p in model.parameters())
    if name.startswith("yolov5"):
        parameters -= sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
        operations += 2 * by_convolutions
    else:
        operations += (4 if name.startswith("yolox") else 8) * by_norms
    wanted = PUBLISHED[name]
    assert (rounded(parameters / 1e6, wanted[0]), rounded(operations / 1e9, wanted[1])) == wanted


def test_exact_parameters() -> None:
    """mmdetection's yolox_s; what the others' authors print, in the v8 line without the 16 constants of DFL."""
    exact = {"yolox_s": 8_968_255, "yolov5s": 7_235_389, "tal_n": 3_157_184, "tal_s": 11_166_544}
    for name, parameters in exact.items():
        assert sum(p.numel() for p in counted(name)[0].parameters()) == parameters


def counted(name: str) -> tuple[Detector, int, int, int]:
    """The model; operations of its convolutions (two a multiply-add); elements that convolutions and norms give."""
    elements = {nn.Conv2d: 0, nn.BatchNorm2d: 0}

    def count(module: nn.Module, _: Any, out: torch.Tensor) -> None:
        for kind in elements:
            elements[kind] += out.numel() if isinstance(module, kind) else 0

    with torch.device("meta"), torch.no_grad():
        model: Detector = find(name, "zoo")().build().eval()
        height, width = model.input.size_hw
        for module in model.modules():
            module.register_forward_hook(count)
        with FlopCounterMode(display=False) as convolutions:
            model(Images(torch.zeros(1, 3, height, width), torch.zeros(1, 2), torch.zeros(1, 4)))
    return model, convolutions.get_total_flops(), elements[nn.Conv2d], elements[nn.BatchNorm2d]


def rounded(value: float, like: str) -> str:
    return f"{value:.{len(like.partition('.')[2])}f}"


def test_yolov1_has_the_published_operations() -> None:
    """40.19 G at 448 pixels (pjreddie.com/darknet/yolo) are the 24 convolutions and one full layer, of 7 x 7 x 256 to
    1715 numbers as in the later yolov1.cfg; the paper's two, which stand here, have more.
    """
    summary = summarise(find("yolov1", "zoo")(num_classes=20))
    full = 2 * (49 * 1024 * 4096 + 4096 * 1470)
    assert f"{(summary.flops - full + 2 * 49 * 256 * 1715) / 1e9:.2f}" == "40.19"


# head, its widths, (stride, prior): a code of zeros and one of ln 2 give these centres (of cell (2, 1)) and sizes
GOLDEN = [
    ("yolov2", (8,), 32, 2, (80.0, 48.0), (106.82976, 175.17888), (2.0, 2.0)),
    ("yolov3", (8, 8, 8), 32, 0, (80.0, 48.0), (116.0, 90.0), (2.0, 2.0)),
    ("yolov4", (8, 8, 8), 8, 1, (20.0, 12.0), (19.0, 36.0), (2.0, 2.0)),
    ("yolov5", (8, 8, 8), 16, 2, (40.0, 24.0), (59.0, 119.0), (16 / 9, 16 / 9)),
    ("yolox", (8, 8, 8), 16, 0, (32.0, 16.0), (16.0, 16.0), (2.0, 2.0)),
]


@pytest.mark.parametrize(("name", "channels", "stride", "prior", "center", "size", "factor"), GOLDEN)
def test_golden_boxes(
    name: str, channels: tuple[int, ...], stride: int, prior: int, center: Any, size: Any, factor: Any
) -> None:
    strides = (32,) if len(channels) == 1 else (8, 16, 32)
    specs = [FeatureSpec(c, (s, s)) for c, s in zip(channels, strides, strict=True)]
    head = part(find(name, "heads"), num_classes=2).build(specs)
    priors = head.priors([(128 // s, 128 // s) for s in strides], (128, 128))
    level = strides.index(stride)
    row = sum(priors.level_sizes[:level]) + (128 // stride + 2) * head.priors.per_location[level] + prior
    codes = torch.zeros(2, len(priors.centers_xy), 4)
    codes[1, :, 2:] = torch.log(torch.tensor(2.0))
    boxes = head.coder.decode(codes, priors)[:, row]
    got_center, got_size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    torch.testing.assert_close(got_center, torch.tensor([center, center]))
    torch.testing.assert_close(got_size, torch.tensor([size, [s * f for s, f in zip(size, factor, strict=True)]]))


def test_yolov4s_centres_reach_beyond_their_cell() -> None:
    """bx = s * sigmoid - (s - 1) / 2 + cx: at 8 pixels s is 1.2, so a large code lies 0.1 cells past the edge."""
    specs = [FeatureSpec(8, (s, s)) for s in (8, 16, 32)]
    head = part(find("yolov4", "heads"), num_classes=2).build(specs)
    priors = head.priors([(4, 4), (2, 2), (1, 1)], (32, 32))
    codes = torch.tensor([20.0, -20, 0, 0]).expand(1, 63, 4)
    boxes = head.coder.decode(codes, priors)[0]
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    for row, stride, scale in ((0, 8, 1.2), (48, 16, 1.1), (60, 32, 1.05)):
        reach = stride * (scale - 1) / 2
        assert center[row].tolist() == pytest.approx([stride + reach, -reach], abs=1e-3)
