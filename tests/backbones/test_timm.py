"""The timm adapter: levels by stride for unlike architectures, freezing, pretrained weights and their errors."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers.activations import PReLU
from torch import nn

from torso.backbones.timm import Timm, _create, load_published
from torso.compose import built_on_meta
from torso.parts import part


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("resnet50", [(64, 2), (256, 4), (512, 8), (1024, 16), (2048, 32)]),
        ("vgg16", [(64, 1), (128, 2), (256, 4), (512, 8), (512, 16), (512, 32)]),
        ("efficientnet_b0", [(16, 2), (24, 4), (40, 8), (112, 16), (320, 32)]),
        ("cspdarknet53", [(32, 1), (64, 2), (128, 4), (256, 8), (512, 16), (1024, 32)]),
        ("swin_tiny_patch4_window7_224", [(96, 4), (192, 8), (384, 16), (768, 32)]),
        ("vit_tiny_patch16_224", [(192, 16)]),
    ],
)
def test_levels_are_known_by_stride_and_come_as_published(name: str, levels: list[tuple[int, int]]) -> None:
    """On the meta device: shapes without weights. Sizes other than the one the model was trained on are taken."""
    backbone = built_on_meta(part(Timm, name=name))
    assert [(s.channels, s.stride) for s in backbone.out_specs] == levels
    height, width = 3 * backbone.multiple, 4 * backbone.multiple
    with torch.no_grad():
        maps = backbone(torch.empty(1, 3, height, width, device="meta"))
    assert [tuple(m.shape) for m in maps] == [(1, c, height // s, width // s) for c, s in levels]


def test_of_several_maps_of_one_stride_the_deepest_is_kept() -> None:
    backbone = Timm(name="test_vit").eval()
    x = torch.randn(1, 3, 64, 64)
    assert len(backbone.body(x)) > 1
    assert torch.equal(backbone(x)[0], backbone.body(x)[-1])


def test_maps_of_nhwc_models_come_as_nchw() -> None:
    """A map that keeps its channels last in memory would still have the wrong shape; values prove the transposition."""
    backbone = Timm(name="swin_tiny_patch4_window7_224").eval()
    with torch.no_grad():
        x = torch.randn(1, 3, 64, 96)
        raw, maps = backbone.body(x), backbone(x)
    assert raw[0].shape[-1] == 96
    assert maps[0].shape == (1, 96, 16, 24)
    assert torch.equal(maps[1][0, :, 2, 3], raw[1][0, 2, 3])


def frozen(backbone: Timm) -> set[str]:
    return {n for n, p in backbone.body.named_parameters() if not p.requires_grad}


def test_frozen_stride_freezes_all_up_to_that_map() -> None:
    stem_and_first = frozen(Timm(name="resnet18", frozen_stride=4))
    assert {n.split(".")[0] for n in stem_and_first} == {"conv1", "bn1", "layer1"}
    assert {n.split(".")[0] for n in frozen(Timm(name="resnet18", frozen_stride=2))} == {"conv1", "bn1"}
    assert frozen(Timm(name="resnet18")) == set()


def test_frozen_norms_keep_their_statistics_and_still_pass_gradients() -> None:
    backbone = Timm(name="test_resnet", frozen_norm=True).train()
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    assert not any(p.requires_grad for m in norms for p in m.parameters())
    before = norms[-1].running_mean.clone()
    backbone(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    assert torch.equal(norms[-1].running_mean, before)
    first = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    assert first.weight.grad is not None
    assert Timm(name="test_resnet").train().training


def test_frozen_stages_keep_their_norms_in_eval_and_leave_the_rest() -> None:
    backbone = Timm(name="resnet18", frozen_stride=4).train()
    assert not backbone.body.bn1.training
    assert not backbone.body.layer1[0].bn1.training
    assert backbone.body.layer2[0].bn1.training


def test_checkpointing_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    plain, thrifty = Timm(name="resnet18"), Timm(name="resnet18", checkpointing=True)
    thrifty.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    for backbone in (plain.eval(), thrifty.eval()):
        backbone(x)[-1].square().mean().backward()
    torch.testing.assert_close(thrifty.body.conv1.weight.grad, plain.body.conv1.weight.grad)


def test_pretrained_from_a_local_file(tmp_path: Path) -> None:
    donor = timm.create_model("test_resnet", pretrained=False)  # the whole classifier, as it is published
    save_file(donor.state_dict(), tmp_path / "weights.safetensors")
    backbone = Timm(name="test_resnet")
    backbone.load_pretrained(str(tmp_path / "weights.safetensors"))
    wanted = donor.state_dict()
    for key, value in backbone.body.state_dict().items():
        assert torch.equal(value, wanted[key]), key


@pytest.mark.parametrize("learns", ["the new activation", "the published one"])
def test_weights_load_where_an_activation_that_learns_was_replaced(
    learns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the activations may differ, and what then has no counterpart is named."""
    if learns == "the new activation":
        monkeypatch.setattr("torso.backbones.timm.make_activation", lambda _: nn.PReLU(init=0.125))
    else:
        monkeypatch.setattr("torso.backbones.timm._create", partial(_create, act_layer=PReLU))
    donor = timm.create_model("test_resnet", **({"act_layer": PReLU} if learns == "the published one" else {}))
    save_file(donor.state_dict(), tmp_path / "weights.safetensors")
    backbone = Timm(name="test_resnet", activation="silu")
    fresh = "stay at their start: conv1.2.weight, " if learns == "the new activation" else "stay at their start: none"
    with pytest.warns(UserWarning, match=rf"test_resnet has other activations.*{fresh}"):
        backbone.load_pretrained(str(tmp_path / "weights.safetensors"))
    own, wanted = backbone.body.state_dict(), donor.state_dict()
    shared = own.keys() & wanted.keys()
    assert "conv1.0.weight" in shared
    assert all(torch.equal(own[key], wanted[key]) for key in shared)
    assert all(float(own[key].max()) == 0.125 for key in own.keys() - shared)


def test_anything_else_that_is_missing_stays_an_error() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(), nn.PReLU())
    published = {"0.weight": torch.ones(4, 3, 1, 1), "0.bias": torch.ones(4)}
    for gone in ({"0.bias"}, set()):
        some = {k: v for k, v in published.items() if k not in gone}
        with pytest.raises(RuntimeError, match="Missing key"):
            load_published(body, some, ("1",) if not gone else ("1", "2"), "tiny")
    with pytest.raises(RuntimeError, match="Unexpected key"):
        load_published(nn.Conv2d(3, 4, 1), {"weight": published["0.weight"], "bias": published["0.bias"],
                                            "act.weight": torch.ones(1)}, (), "tiny")  # fmt: skip


def test_pretrained_weights_of_the_shared_data(shared_data: Path) -> None:
    path = shared_data / "weights" / "tf_efficientnet_lite0_in1k_timm.safetensors"
    if not path.is_file():
        pytest.skip(f"no weights at {path}")
    backbone = Timm(name="tf_efficientnet_lite0")
    before = backbone.body.conv_stem.weight.clone()
    backbone.load_pretrained(str(path))
    assert not torch.equal(backbone.body.conv_stem.weight, before)
    assert (backbone.mean, backbone.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize("case", ["gone", "text", "other model"])
def test_weights_that_cannot_be_had_are_an_error_and_leave_the_model_alone(case: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    if case == "text":
        path.write_text("not weights")
    if case == "other model":
        save_file(timm.create_model("test_efficientnet").state_dict(), path)
    backbone = Timm(name="test_resnet")
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(ValueError, match=r"no weight file at|could not be loaded from") as caught:
        backbone.load_pretrained(str(path))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())


def test_a_hub_that_cannot_be_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("the network is unreachable")

    monkeypatch.setattr("timm.models._builder.load_pretrained", fails)
    with pytest.raises(ValueError, match=r"of test_resnet could not be loaded from 'hub' .*give a local file"):
        Timm(name="test_resnet").load_pretrained("hub")


def test_errors_name_the_nearest_and_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"timm has no model 'resnet5'; did you mean 'resnet50'"):
        Timm(name="resnet5")
    with pytest.raises(ValueError, match=r"frozen_stride=3: test_resnet has maps of stride \[2, 4, 8, 16, 32\]"):
        Timm(name="test_resnet", frozen_stride=3)
