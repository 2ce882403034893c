"""Named backbones: the published sizes, timm's features bit for bit, torchvision's with copied weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from torso.backbones.timm import Timm
from torso.compose import built_on_meta, compose_model
from torso.parts import find, named, names, part

FEATURES = {  # parameters of timm's features-only body; of the maps: (channels, stride)
    "vgg16": (14_714_688, [(64, 1), (128, 2), (256, 4), (512, 8), (512, 16), (512, 32)]),
    "resnet50": (23_508_032, [(64, 2), (256, 4), (512, 8), (1024, 16), (2048, 32)]),
    "efficientnet_b0": (3_595_388, [(16, 2), (24, 4), (40, 8), (112, 16), (320, 32)]),
    "efficientnet_b7": (62_143_440, [(32, 2), (48, 4), (80, 8), (224, 16), (640, 32)]),
    "tf_efficientnet_b0": (3_595_388, [(16, 2), (24, 4), (40, 8), (112, 16), (320, 32)]),
    "tf_efficientnet_b7": (62_143_440, [(32, 2), (48, 4), (80, 8), (224, 16), (640, 32)]),
    "cspresnext50": (18_520_896, [(64, 2), (256, 4), (512, 8), (1024, 16), (2048, 32)]),
    "cspdarknet53": (26_617_184, [(32, 1), (64, 2), (128, 4), (256, 8), (512, 16), (1024, 32)]),
    "darknet53": (40_584_928, [(32, 1), (64, 2), (128, 4), (256, 8), (512, 16), (1024, 32)]),
    "swin_t": (27_517_818, [(96, 4), (192, 8), (384, 16), (768, 32)]),
    "swin_s": (48_835_722, [(96, 4), (192, 8), (384, 16), (768, 32)]),
    "swin_b": (86_741_176, [(128, 4), (256, 8), (512, 16), (1024, 32)]),
    "swin_l": (194_992_404, [(192, 4), (384, 8), (768, 16), (1536, 32)]),
}
SUMMARY = {  # millions, as the tables of the field round them
    "vgg16": 14.715, "resnet50": 23.508, "efficientnet_b0": 3.595, "efficientnet_b7": 62.143, "cspresnext50": 18.521,
    "cspdarknet53": 26.617, "darknet53": 40.585, "swin_t": 27.518, "swin_s": 48.836, "swin_b": 86.741,
    "swin_l": 194.992,
}  # fmt: skip


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", FEATURES)
def test_sizes_and_levels(name: str) -> None:
    parameters, levels = FEATURES[name]
    backbone = built_on_meta(named(name, "backbones"))
    assert count(backbone.body) == parameters
    norms = sum(2 * c for c, _ in levels) if name.startswith("swin") else 0
    assert count(backbone) == parameters + norms
    assert round(parameters / 1e6, 3) == SUMMARY.get(name, round(parameters / 1e6, 3))
    assert [(s.channels, s.stride) for s in backbone.out_specs] == levels


def test_every_preset_is_listed_with_a_line_and_a_source() -> None:
    assert set(FEATURES) <= set(names("backbones"))


def test_a_preset_is_a_backbone_of_any_model() -> None:
    model = compose_model("retinanet", backbone="cspdarknet53")
    assert model.get("backbone").get("name") == "cspdarknet53"
    assert model.get("backbone").get("activation") == "mish"


SWINS = {"img_size": (64, 64), "always_partition": True}
OPTIONS: dict[str, dict[str, Any]] = {  # of timm's own model, for what the preset sets beyond its name
    "darknet53": {"act_layer": partial(nn.LeakyReLU, negative_slope=0.1)},
    "cspdarknet53": {"act_layer": "mish"},
    **dict.fromkeys(("swin_t", "swin_s", "swin_b", "swin_l"), SWINS),
}


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_timms_bit_for_bit(name: str) -> None:
    """Swin's before the norms that the preset puts on its maps."""
    torch.manual_seed(0)
    ours = named(name, "backbones").build().eval()
    theirs = timm.create_model(ours.name, features_only=True, **OPTIONS.get(name, {})).eval()
    theirs.load_state_dict(ours.body.state_dict(), assign=True)  # swin_l's 195 million are not held twice
    x = torch.randn(1, 3, 64, 64) if name.startswith("swin") else torch.randn(1, 3, 70, 90)
    with torch.no_grad():
        wanted = theirs(x)
        if ours.stage_norms is not None:
            wanted = ours.stage_norms([m.permute(0, 3, 1, 2) for m in wanted])
        assert all(torch.equal(a, b) for a, b in zip(ours(x), wanted, strict=True))


def test_every_preset_of_timm_is_among_them() -> None:
    presets = {n for n in names("backbones") if not inspect.isclass(find(n, "backbones"))}
    assert {n for n in presets if named(n, "backbones").target is Timm} == set(FEATURES)


def test_cspresnext50_keeps_the_slope_of_its_weights() -> None:
    for activation, slope in ((None, 0.01), ("leaky_relu", 0.1)):
        body = built_on_meta(named("cspresnext50", "backbones").with_args(activation=activation))
        assert {m.negative_slope for m in body.modules() if isinstance(m, nn.LeakyReLU)} == {slope}


def test_an_activation_replaces_every_other_and_no_gate() -> None:
    backbone = Timm(name="efficientnet_b0", activation="leaky_relu")
    kinds = {type(m).__name__ for m in backbone.body.modules()}
    assert "SiLU" not in kinds
    assert "Sigmoid" in kinds
    assert {m.negative_slope for m in backbone.modules() if isinstance(m, nn.LeakyReLU)} == {0.1}
    darknet = built_on_meta(named("darknet53", "backbones"))
    slopes = [m.negative_slope for m in darknet.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes
    assert set(slopes) == {0.1}


def test_swin_is_timms_before_the_norms_and_normal_after_them() -> None:
    torch.manual_seed(0)
    ours = named("swin_t", "backbones").build().eval()
    theirs = timm.create_model(ours.name, features_only=True, img_size=(448, 224), always_partition=True).eval()
    theirs.load_state_dict(ours.body.state_dict())
    x = torch.randn(1, 3, 448, 224)
    with torch.no_grad():
        maps, wanted = ours(x), theirs(x)
    for i, (m, w) in enumerate(zip(maps, wanted, strict=True)):
        norm = ours.stage_norms.norms[i]
        assert torch.equal(m, norm(w).permute(0, 3, 1, 2))
        torch.testing.assert_close(m.mean(1), torch.zeros_like(m[:, 0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(333, 250), (64, 40)])
def test_swin_takes_any_size_and_rounds_up(height: int, width: int) -> None:
    ours = part(Timm, name="swin_tiny_patch4_window7_224", stage_norms=True).build().eval()
    with torch.no_grad():
        sizes = [tuple(m.shape[-2:]) for m in ours(torch.randn(1, 3, height, width))]
    assert sizes == [(-(-height // s), -(-width // s)) for s in (4, 8, 16, 32)]


def test_a_vision_transformer_takes_any_size() -> None:
    backbone = Timm(name="test_vit").eval()
    stride = backbone.out_specs[0].stride
    with torch.no_grad():
        assert backbone(torch.randn(1, 3, 67, 90))[0].shape[-2:] == (-(-67 // stride), -(-90 // stride))


def torchvision_vgg16(model: nn.Module, x: Tensor) -> list[Tensor]:
    taps, out = {3: 1, 8: 2, 15: 4, 22: 8, 29: 16, 30: 32}, []
    for i, layer in enumerate(model.features):
        x = layer(x)
        if i in taps:
            out.append(x.clone())
    return out


def torchvision_resnet50(model: nn.Module, x: Tensor) -> list[Tensor]:
    x = model.relu(model.bn1(model.conv1(x)))
    out = [x]
    x = model.maxpool(x)
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = layer(x)
        out.append(x)
    return out


def torchvision_stages(model: nn.Module, x: Tensor, taps: tuple[int, ...]) -> list[Tensor]:
    out = []
    for i, layer in enumerate(model.features):
        x = layer(x)
        if i in taps:
            out.append(x)
    return out


def copy_in_order(ours: nn.Module, theirs: nn.Module) -> None:
    """Both libraries define their layers in the order of the network; what theirs has beyond is the classifier."""
    mine, peer = ours.state_dict(), theirs.state_dict()
    for (a, value), (b, to) in zip(mine.items(), peer.items(), strict=False):
        assert value.shape == to.shape, (a, b)
    theirs.load_state_dict({**peer, **dict(zip(peer, mine.values(), strict=False))})


PEERS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor], list[Tensor]]]] = {
    "vgg16": (lambda: torchvision.models.vgg16(weights=None), torchvision_vgg16),
    "resnet50": (lambda: torchvision.models.resnet50(weights=None), torchvision_resnet50),
    "efficientnet_b0": (
        lambda: torchvision.models.efficientnet_b0(weights=None),
        lambda model, x: torchvision_stages(model, x, (1, 2, 3, 5, 7)),
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_features_are_torchvisions(name: str) -> None:
    torch.manual_seed(0)
    make, features = PEERS[name]
    ours, theirs = named(name, "backbones").build().eval(), make().eval()
    copy_in_order(ours.body, theirs)
    x = torch.randn(1, 3, 93, 70)
    with torch.no_grad():
        for mine, peer in zip(ours(x), features(theirs, x), strict=True):
            assert torch.equal(mine, peer)


def swin_key(key: str) -> str:
    """timm's features_only name of a torchvision Swin weight."""
    head, i, rest = key.split(".", 2)
    assert head == "features"
    if i == "0":
        return "patch_embed." + rest.replace("0.", "proj.", 1).replace("2.", "norm.", 1)
    if int(i) % 2 == 0:
        return f"layers_{int(i) // 2}.downsample.{rest}"
    rest = rest.replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
    return f"layers_{int(i) // 2}.blocks.{rest}"


def test_swin_is_torchvisions_where_every_map_is_several_windows() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.swin_t(weights=None).eval()
    ours = Timm(name="swin_tiny_patch4_window7_224").eval()
    state = {swin_key(k): v for k, v in theirs.state_dict().items() if k.startswith("features")}
    wanted = ours.body.state_dict()
    missing = set(wanted) - set(state)
    assert not missing, missing
    ours.body.load_state_dict({k: v.view_as(wanted[k]) for k, v in state.items() if k in wanted})
    x = torch.randn(1, 3, 448, 448)
    with torch.no_grad():
        peers = torchvision_stages(theirs, x, (1, 3, 5, 7))
        for mine, peer in zip(ours(x), peers, strict=True):
            assert torch.equal(mine, peer.permute(0, 3, 1, 2))


def test_drop_path_is_for_training_only() -> None:
    torch.manual_seed(0)
    backbone = Timm(name="swin_tiny_patch4_window7_224", drop_path=0.5)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(backbone(x)[-1], backbone(x)[-1])
        backbone.eval()
        assert torch.equal(backbone(x)[-1], backbone(x)[-1])


def test_what_an_architecture_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"timm's vgg16 cannot be opened .*drop_path"):
        Timm(name="vgg16", drop_path=0.1)
    assert find("swin_t", "backbones")() == named("swin_t", "backbones")
