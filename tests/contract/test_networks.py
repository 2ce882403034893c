"""What every backbone, neck and head promises of its maps: true specs, gradients everywhere, nothing changed."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from contract_cases import BACKBONE_SPECS, NECK_SPECS, SIZE_HW, check_gradients, default, images, maps, smallest
from torch import Tensor, nn

from torso.parts import Part, arguments, find, names

BACKBONES = ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"]  # NHWC and one-map models among them


def module_of(kind: str, name: str, **args: Any) -> nn.Module:
    torch.manual_seed(0)
    p = smallest(default(kind, name)).with_args(**args)
    made: nn.Module = p.build(BACKBONE_SPECS if kind == "necks" else NECK_SPECS)
    return made


def check_specs(module: Any, out: list[Tensor], size_hw: tuple[int, int]) -> None:
    assert len(out) == len(module.out_specs)
    areas = [s.stride_yx[0] * s.stride_yx[1] for s in module.out_specs]
    assert areas == sorted(areas)
    assert len({s.stride_yx for s in module.out_specs}) == len(areas)
    for m, spec in zip(out, module.out_specs, strict=True):
        assert m.shape[1] == spec.channels
        for have, size, stride in zip(m.shape[2:], size_hw, spec.stride_yx, strict=True):
            assert size // stride <= have <= -(-size // stride)


def check_pure(module: nn.Module, *inputs: Any) -> Any:
    """Runs twice in eval mode: the same answer, and the inputs as they were."""
    module.eval()
    flat = [t for i in inputs for t in (i if isinstance(i, list | tuple) else [i])]
    before = [t.clone() for t in flat]
    lengths = [len(i) for i in inputs if isinstance(i, list)]
    with torch.no_grad():
        first, second = module(*inputs), module(*inputs)
    torch.testing.assert_close(_tensors(first), _tensors(second), rtol=0, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(flat, before, strict=True))
    assert lengths == [len(i) for i in inputs if isinstance(i, list)]
    return first


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value for t in _tensors(v)] if isinstance(value, list | tuple) else []


def backbone_classes() -> list[Part[Any]]:
    """Every backbone class at its smallest, the timm adapter around several models; presets are these at full size."""
    classes = [smallest(default("backbones", n)) for n in names("backbones") if inspect.isclass(find(n, "backbones"))]
    adapters = [p for p in classes if "name" in arguments(p.target)]
    return [p for p in classes if p not in adapters] + [p.with_args(name=n) for p in adapters for n in BACKBONES]


@pytest.mark.parametrize("made", backbone_classes(), ids=str)
def test_backbone(made: Part[Any]) -> None:
    torch.manual_seed(0)
    backbone = made.build()
    size = (3 * backbone.multiple, 2 * backbone.multiple)
    pixels = torch.randn(2, 3, *size)
    check_specs(backbone, check_pure(backbone, pixels), size)
    backbone.train()
    torch.stack([m.square().mean() for m in backbone(pixels)]).sum().backward()
    check_gradients(backbone)


def test_a_convolutional_backbone_takes_odd_sizes() -> None:
    backbone = default("backbones", "timm").build().eval()
    check_specs(backbone, backbone(torch.randn(1, 3, *SIZE_HW)), SIZE_HW)


@pytest.mark.parametrize("name", names("necks"))
def test_neck(name: str) -> None:
    neck = module_of("necks", name)
    check_specs(neck, check_pure(neck, maps(BACKBONE_SPECS)), SIZE_HW)
    neck.train()
    torch.stack([m.square().mean() for m in neck(maps(BACKBONE_SPECS))]).sum().backward()
    check_gradients(neck)


@pytest.mark.parametrize("name", names("necks"))
def test_neck_compiles_in_one_graph(name: str) -> None:
    neck = module_of("necks", name).eval()
    torch.compiler.reset()
    with torch.no_grad():
        out = torch.compile(neck, fullgraph=True, backend="aot_eager")(maps(BACKBONE_SPECS))
        torch.testing.assert_close(out, neck(maps(BACKBONE_SPECS)))


@pytest.mark.parametrize("name", names("heads"))
def test_head_and_its_candidates(name: str) -> None:
    head = module_of("heads", name)
    features, batch = maps(NECK_SPECS), images()
    raw = check_pure(head, features, batch)
    found = head.decode(raw, batch)
    b, t = found.scores.shape
    assert found.boxes.shape == (b, t, 4)
    assert found.labels.shape == found.index.shape == (b, t)
    assert found.labels.dtype == found.index.dtype == torch.int64
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert 0 <= found.labels.min() <= found.labels.max() < head.num_classes
    assert 0 <= found.scores.min() <= found.scores.max() <= 1
    assert torch.equal(found.index < 0, found.scores == 0)
    limit = batch.size_hw.flip(-1).repeat(1, 2)[:, None]
    assert (found.boxes >= 0).all()
    assert (found.boxes <= limit).all()


@pytest.mark.parametrize("name", names("heads"))
def test_head_says_where_its_classes_lie(name: str) -> None:
    """Exactly the parameters that grow with the number of classes, and as many rows as it says."""
    few = module_of("heads", name)
    many = dict(module_of("heads", name, num_classes=5).named_parameters())
    for parameter, value in few.named_parameters():
        layout = few.class_rows(parameter)
        assert (value.shape != many[parameter].shape) == (layout is not None), parameter
        if layout is not None:
            assert value.shape[0] == layout.anchors * (few.num_classes + layout.background) * layout.values
