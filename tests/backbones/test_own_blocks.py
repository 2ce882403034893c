"""Blocks inside our own backbones: each by its stages, whatever is added to the folder."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torso.backbones._stages import Staged
from torso.backbones.csp import CSPDarknet
from torso.backbones.shufflenet_v2 import ShuffleNetV2
from torso.backbones.spinenet import SpineNet
from torso.backbones.ssd_vgg import SSDVGG
from torso.blocks.cbam import CBAM
from torso.blocks.non_local import NonLocal
from torso.blocks.spp import SPP
from torso.compose import built_on_meta, compose_model
from torso.parts import Part, arguments, find, named, names, part

SMALL: dict[str, Any] = {"width": 0.125, "depth": 0.1, "filter_scale": 0.125, "channels": 8, "widths": (8, 16, 32)}
OWN = [n for n in names("backbones") if inspect.isclass(find(n, "backbones")) and n != "timm"]
PRESETS = [n for n in names("backbones") if not inspect.isclass(find(n, "backbones"))]
REACHED = {8: {8}, 16: {16, 32, 64, 128}, 32: {32, 64, 128}, 64: {64}, 128: {128}}  # of SpineNet, by its graph


def small(name: str) -> Part[Any]:
    whole = named(name, "backbones")
    return whole.with_args(**{k: v for k, v in SMALL.items() if k in arguments(whole.target)})


def strides_of(name: str) -> list[int]:
    return [s.stride for s in built_on_meta(small(name)).out_specs]


def made(name: str, block: Part[Any] | None = None, *strides: int) -> Any:
    torch.manual_seed(0)
    return small(name).with_args(block=block, block_strides=strides).build()


def run(model: nn.Module) -> list[Tensor]:
    with torch.no_grad():
        maps: list[Tensor] = model.eval()(torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)))
    return maps


@pytest.mark.parametrize("name", OWN)
def test_a_block_changes_its_map_and_what_is_made_of_it_and_nothing_else(name: str) -> None:
    plain = made(name)
    before, strides = run(plain), strides_of(name)
    for at in strides:
        blocked = made(name, part(NonLocal), at)  # starts as nothing
        assert blocked.out_specs == plain.out_specs
        assert all(torch.equal(a, b) for a, b in zip(run(blocked), before, strict=True))
        nn.init.constant_(blocked.inserted[str(at)].norm.bias, 0.5)  # now it adds a half to every value
        changed = {s for s, a, b in zip(strides, run(blocked), before, strict=True) if not torch.allclose(a, b)}
        assert changed == (REACHED[at] if name == "spinenet" else {s for s in strides if s >= at})


@pytest.mark.parametrize("name", OWN)
def test_weights_keep_their_names_and_their_start(name: str) -> None:
    plain, blocked = made(name), made(name, part(CBAM))
    assert list(blocked.inserted) == [str(s) for s in strides_of(name) if s >= 8]
    body = {k: v for k, v in blocked.state_dict().items() if not k.startswith("inserted.")}
    assert list(body) == list(plain.state_dict())
    assert all(torch.equal(v, body[k]) for k, v in plain.state_dict().items())
    blocks = {id(p) for p in blocked.inserted.parameters()}
    assert blocks
    assert not blocks & {id(p) for p in blocked.published_parameters()}
    if name != "ssd_vgg":  # whose fc6 and fc7 are not published
        assert len(blocks) + len(list(blocked.published_parameters())) == len(list(blocked.parameters()))


@pytest.mark.parametrize("name", OWN)
def test_gradients_reach_blocks_and_a_copy_has_its_own(name: str) -> None:
    model = made(name, part(CBAM))
    twin = copy.deepcopy(model)
    sum(m.square().mean() for m in model.train()(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.inserted.parameters())
    assert all(p.grad is None for p in twin.parameters())
    before = run(twin)
    for p in model.inserted.parameters():
        nn.init.zeros_(p)
    assert all(torch.equal(a, b) for a, b in zip(run(twin), before, strict=True))
    assert not torch.allclose(run(model)[-1], before[-1])


@pytest.mark.parametrize("name", ["csp", "ssd_vgg"])
def test_compiles_in_one_graph(name: str) -> None:
    """Two stand for all, which are hooked alike: SpineNet's many nodes alone would take ten seconds."""
    model, x = made(name, part(CBAM)).eval(), torch.randn(1, 3, 64, 96)
    torch.compiler.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(x), model(x))


@pytest.mark.parametrize("name", ["csp", "ssd_vgg", "spinenet"])
def test_is_exported(name: str) -> None:
    model, x = made(name, part(CBAM)).eval(), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


def test_stages_by_hand() -> None:
    """SSD's conv4_3 goes through its block before it is normalised, and on to the next pool as the block gives it."""
    body, x = SSDVGG(block=part(CBAM), block_strides=(8, 16)).eval(), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        conv4_3 = x
        for i in range(4):
            conv4_3 = nn.functional.max_pool2d(conv4_3, 2) if i else conv4_3
            conv4_3 = body.blocks[i].forward(conv4_3)
        conv4_3 = body.inserted["8"](conv4_3)
        conv5_3 = body.blocks[4](nn.functional.max_pool2d(conv4_3, 2))
        fc6 = body.fc6(nn.functional.max_pool2d(conv5_3, 3, stride=1, padding=1)).relu()
        wanted = [body.l2_norm(conv4_3), body.inserted["16"](body.fc7(fc6).relu())]
        torch.testing.assert_close(body(x), wanted)


def test_the_coarsest_map_may_change_its_width() -> None:
    body = CSPDarknet(width=0.125, depth=0.1, block=part(SPP, channels=24))
    assert body.out_specs[-1].channels == 24
    assert run(body)[-1].shape == (1, 24, 2, 3)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (CSPDarknet, {"block": part(CBAM), "block_strides": (64,)}, r"CSPDarknet cannot put CBAM at stride 64"),
        (
            ShuffleNetV2,
            {"block": part(SPP), "block_strides": (16,)},
            "SPP at stride 16 of ShuffleNetV2 makes 512 .*its channels to none, choose block_strides=32, or put it beh",
        ),
        (
            SpineNet,
            {"block": part(SPP), "block_strides": (128,), "filter_scale": 0.125},
            "SPP at stride 128 of SpineNet makes 512 channels of 128.*none, or put it behind the backbone as a neck",
        ),
    ],
)
def test_refusals(kind: type[Staged], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


@pytest.mark.parametrize("name", [*OWN, *PRESETS])
def test_every_backbone_takes_a_block_by_one_flag(name: str) -> None:
    whole = named(name, "backbones")
    assert {"block", "block_strides"} <= set(arguments(whole.target))
    flags = {"backbone.block": "cbam", "backbone.block_strides": "16", "backbone.block.reduction": "8"}
    model = compose_model("fcos", backbone="resnet18" if name == "timm" else name, overrides=flags)
    assert model.get("backbone").get("block") == part(CBAM, reduction=8)
    assert model.get("backbone").get("block_strides") == (16,)
