"""Blocks inside a backbone: the next stage sees them, the body's weights do not, and nothing freezes them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torso.backbones._stages import insert_blocks
from torso.backbones.timm import Timm
from torso.blocks.aspp import ASPP
from torso.blocks.cbam import CBAM
from torso.blocks.non_local import NonLocal
from torso.blocks.spp import SPP
from torso.parts import Part, part
from torso.types import FeatureSpec

BODIES = ["test_resnet", "resnet18", "test_efficientnet", "cspdarknet53", "swin_tiny_patch4_window7_224"]


def backbone(name: str = "test_resnet", block: Part[Any] = part(CBAM), **arguments: Any) -> Timm:
    torch.manual_seed(0)
    return part(Timm, name=name, block=block, **arguments).build()


def run(model: nn.Module, size: tuple[int, int] = (64, 64)) -> list[Tensor]:
    with torch.no_grad():
        maps: list[Tensor] = model.eval()(torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1)))
    return maps


@pytest.mark.parametrize("name", BODIES)
def test_the_next_stage_sees_the_block_and_the_body_keeps_its_keys(name: str) -> None:
    plain = Timm(name=name)
    blocked = backbone(name, part(NonLocal), block_strides=(16,))  # starts as nothing
    assert set(blocked.body.state_dict()) == set(plain.body.state_dict())
    blocked.body.load_state_dict(plain.body.state_dict())
    before = run(plain)
    assert all(torch.equal(a, b) for a, b in zip(run(blocked), before, strict=True))
    nn.init.constant_(blocked.blocks["16"].norm.bias, 0.5)  # now it adds a half to every value
    strides = [s.stride for s in blocked.out_specs]
    for stride, got, was in zip(strides, run(blocked), before, strict=True):
        if stride < 16:
            assert torch.equal(got, was)
        elif stride == 16:
            torch.testing.assert_close(got, was + 0.5)
        else:
            assert not torch.allclose(got, was)


def test_a_chain_of_stages_by_hand() -> None:
    model = backbone(block_strides=(8, 16)).eval()
    body, x = model.body, torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        c2 = body.layer1(body.maxpool(body.act1(body.bn1(body.conv1(x)))))
        c3 = model.blocks["8"](nn.Module.__call__(_Bare(body.layer2), c2))
        c4 = model.blocks["16"](nn.Module.__call__(_Bare(body.layer3), c3))
        for got, want in zip(model(x)[1:], (c2, c3, c4, body.layer4(c4)), strict=True):
            torch.testing.assert_close(got, want)


class _Bare(nn.Module):
    """A stage without its hook."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.stage.forward(x)
        return y


def test_each_map_has_a_block_of_its_own_from_stride_8_on() -> None:
    model = backbone()
    assert list(model.blocks) == ["8", "16", "32"]
    first, second = model.blocks["8"], model.blocks["16"]
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    assert list(backbone(block=part(SPP, channels=None)).blocks) == ["32"]


def test_freezing_and_frozen_norms_leave_blocks_alone() -> None:
    model = backbone(frozen_stride=16, frozen_norm=True, block_strides=(8, 16)).train()
    assert all(p.requires_grad for p in model.blocks.parameters())
    assert all(m.training for m in model.blocks.modules())
    assert not any(p.requires_grad for p in model.body.layer3.parameters())
    norms = [m for m in model.blocks.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(m.num_batches_tracked == 0 for m in norms)  # looking for what to freeze shows them nothing
    sum(m.square().mean() for m in model(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in model.blocks.parameters())


def test_a_copy_has_blocks_of_its_own() -> None:
    model = backbone()
    twin = copy.deepcopy(model)
    before = run(twin)
    for p in model.blocks.parameters():
        nn.init.zeros_(p)
    assert all(torch.equal(a, b) for a, b in zip(run(twin), before, strict=True))
    assert not torch.equal(run(model)[-1], before[-1])


def test_pretrained_weights_go_into_the_body(tmp_path: Any) -> None:
    from safetensors.torch import save_file
    from timm import create_model

    torch.manual_seed(5)
    donor = create_model("test_resnet")
    save_file(donor.state_dict(), tmp_path / "weights.safetensors")
    model = backbone()
    model.load_pretrained(str(tmp_path / "weights.safetensors"))
    assert torch.equal(model.body.layer4[0].conv1.weight, donor.layer4[0].conv1.weight)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_compiles_in_one_graph_and_is_exported(name: str) -> None:
    model, x = backbone(name).eval(), torch.randn(1, 3, 64, 96)
    torch.compiler.reset()
    with torch.no_grad():
        want = model(x)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(x)
        exported = torch.export.export(model, (x,)).module()(x)
    for maps in (compiled, exported):
        for a, b in zip(maps, want, strict=True):
            torch.testing.assert_close(a, b)


def test_checkpointing_recomputes_through_blocks() -> None:
    grads = []
    for checkpointing in (False, True):
        model = backbone(block=part(NonLocal), checkpointing=checkpointing, frozen_norm=True)
        for block in model.blocks.values():
            nn.init.ones_(block.norm.weight)
        x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
        sum(m.square().mean() for m in model(x)).backward()
        grads.append([p.grad for p in model.blocks.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_the_coarsest_map_may_change_its_width() -> None:
    model = backbone("swin_tiny_patch4_window7_224", part(ASPP, channels=24), stage_norms=True)
    assert model.out_specs[-1].channels == 24
    assert run(model)[-1].shape == (1, 24, 2, 2)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("test_resnet", {"block_strides": (64,)}, r"test_resnet cannot put CBAM at stride 64.*\[2, 4, 8, 16, 32\]"),
        (
            "test_resnet",
            {"block": part(SPP), "block_strides": (8,)},
            "SPP at stride 8 of test_resnet makes 512 channels of 48.*block_strides=32, or put it behind the backbone",
        ),
        ("test_vit", {"block_strides": (16,)}, "test_vit has no stages.*as the neck"),
        ("hrnet_w18_small", {"block_strides": (16,)}, "hrnet_w18_small.*as the neck"),
    ],
)
def test_refusals(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbone(name, **arguments)


def test_a_body_of_fine_maps_alone_is_told_the_backbones_own_argument() -> None:
    with pytest.raises(ValueError, match=r"the backbone tiny puts CBAM at strides from 8 on.*goes: block_strides=4"):
        insert_blocks(
            nn.Identity(), part(CBAM), (), specs=[FeatureSpec(8, (2, 2)), FeatureSpec(8, (4, 4))], stages=["a", "b"],
            nhwc=False, name="tiny",
        )  # fmt: skip
