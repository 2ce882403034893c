"""The YOLO family's backbone: sizes, the forms of its stem and its pooling, what C2f joins."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torso.backbones.csp import CSPDarknet
from torso.compose import built_on_meta
from torso.layers.conv import ConvNormAct
from torso.layers.csp import C2f
from torso.necks.csp_pan import CSPPAN
from torso.parts import named

YOLOV5 = {"csp_n": 1.9, "csp_s": 7.2, "csp_m": 21.2, "csp_l": 46.5, "csp_x": 86.7}  # published, whole detectors, M
OUTPUTS = 3 * (80 + 5)  # three anchors a place; classes, box and objectness


def folded(*modules: nn.Module) -> int:
    """Parameters with every BatchNorm folded into its convolution, as the published table counts them."""
    norms = [n for m in modules for n in m.modules() if isinstance(n, nn.BatchNorm2d)]
    return sum(p.numel() for m in modules for p in m.parameters()) - sum(n.num_features for n in norms)


@pytest.mark.parametrize("name", YOLOV5)
def test_with_its_neck_and_outputs_it_has_the_published_parameters(name: str) -> None:
    made = named(name, "backbones")
    with torch.device("meta"):
        body = made.build()
        neck = CSPPAN(body.out_specs, channels=None, depth=round(3 * made.get("depth")), finest=8, coarsest=32)
        outputs = nn.ModuleList(nn.Conv2d(s.channels, OUTPUTS, 1) for s in neck.out_specs)
    assert round(folded(body, neck, outputs) / 1e6, 1) == YOLOV5[name]


YOLOV8 = {"c2f_n": 3.16, "c2f_s": 11.2, "c2f_m": 25.9, "c2f_l": 43.7, "c2f_x": 68.2}  # published, norms and all


@pytest.mark.parametrize("name", YOLOV8)
def test_c2f_with_the_neck_and_head_of_its_family_has_the_published_parameters(name: str) -> None:
    """The neck joins without reducing; a level of the head has two 3x3 for 4 x 16 distances and two for 80 classes."""
    made = named(name, "backbones")
    depth = round(3 * made.get("depth"))

    def conv(a: int, b: int, stride: int = 1) -> ConvNormAct:
        return ConvNormAct(a, b, stride=stride, norm="bn", activation="silu")

    def c2f(a: int, b: int) -> C2f:
        return C2f(a, b, depth=depth, shortcut=False, norm="bn", activation="silu")

    with torch.device("meta"):
        body = made.build()
        c3, c4, c5 = (s.channels for s in body.out_specs[1:])
        parts = [body, c2f(c5 + c4, c4), c2f(c4 + c3, c3), conv(c3, c3, 2), c2f(c3 + c4, c4), conv(c4, c4, 2)]
        parts.append(c2f(c4 + c5, c5))
        box, cls = max(16, c3 // 4, 64), max(c3, 80)
        for c in (c3, c4, c5):
            parts += [conv(c, box), conv(box, box), nn.Conv2d(box, 64, 1)]
            parts += [conv(c, cls), conv(cls, cls), nn.Conv2d(cls, 80, 1)]
    total = sum(p.numel() for m in parts for p in m.parameters())
    assert round(total / 1e6, 2 if name == "c2f_n" else 1) == YOLOV8[name]


@pytest.mark.parametrize(
    ("name", "channels"),
    [("c2f_n", (32, 64, 128, 256)), ("c2f_m", (96, 192, 384, 576)), ("c2f_x", (160, 320, 640, 640))],
)
def test_levels(name: str, channels: tuple[int, ...]) -> None:
    body = built_on_meta(named(name, "backbones"))
    assert [(s.channels, s.stride) for s in body.out_specs] == list(zip(channels, (4, 8, 16, 32), strict=True))
    with torch.no_grad():
        maps = body(torch.zeros(1, 3, 64, 96, device="meta"))
    assert [tuple(m.shape) for m in maps] == [(1, s.channels, 64 // s.stride, 96 // s.stride) for s in body.out_specs]


def test_conv6_is_a_focus_stem_with_more_weights() -> None:
    """A 3x3 on 2x2 blocks reads 6x6 pixels from one block before on: its weights fit into the 6x6 convolution."""
    torch.manual_seed(0)
    focus = CSPDarknet(width=0.125, depth=0.33, stem="focus").eval()
    conv6 = CSPDarknet(width=0.125, depth=0.33, stem="conv6").eval()
    blocks = focus.stem.conv.conv.weight.detach()  # [C, (column, row, RGB), 3, 3]
    c = blocks.shape[0]
    whole = blocks.reshape(c, 2, 2, 3, 3, 3).permute(0, 3, 4, 2, 5, 1).reshape(c, 3, 6, 6)
    conv6.stem.conv.weight.data.copy_(whole)
    conv6.stages.load_state_dict(focus.stages.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(focus(x), conv6(x), strict=True):
            torch.testing.assert_close(a, b)


def test_c2f_joins_every_bottleneck() -> None:
    """Each of the 2 + depth maps has weights of its own in the joint; silencing all but one leaves that one."""
    torch.manual_seed(0)
    layer = C2f(8, 8, depth=3, shortcut=True, norm="none", activation="none").eval()
    x = torch.randn(1, 8, 5, 5)
    halves = list(layer.split(x).chunk(2, dim=1))
    for block in layer.blocks:
        halves.append(halves[-1] + block.conv2(block.conv1(halves[-1])))
    assert layer.final.conv.in_channels == 5 * 4
    torch.testing.assert_close(layer(x), layer.final(torch.cat(halves, dim=1)))


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="width: expected a number above 0, got 0"):
        CSPDarknet(width=0)
    with pytest.raises(ValueError, match=r"even sides; \(33, 64\) came"):
        CSPDarknet(width=0.125, depth=0.33, stem="focus")(torch.zeros(1, 3, 33, 64))
