"""Blocks by one flag: in a chain of necks, in a backbone's stages, with dotted arguments; mistakes are named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torso.blocks.cbam import CBAM
from torso.blocks.spp import SPP
from torso.compose import compose_model, create, from_yaml, to_yaml
from torso.necks.at_levels import AtLevels
from torso.parts import Part, PartError, names, part
from torso.types import Images

TINY = {"backbone.name": "test_resnet", "head.channels": "8", "head.tower": "1"}


def necks(choice: Any, **overrides: str) -> list[Part[Any]]:
    model = compose_model("fcos", neck=choice, overrides={k.replace("__", "."): v for k, v in overrides.items()})
    chain = model.get("neck")
    return list(chain) if isinstance(chain, tuple) else [chain]


@pytest.mark.parametrize("choice", ["spp+pan", ["spp", "pan"], [part(SPP), "pan"], [part(AtLevels), "pan"]])
def test_a_block_stands_where_a_neck_may(choice: Any) -> None:
    first, second = necks(choice)
    assert (first.get("block"), first.get("finest"), second.name) == (part(SPP), 8, "necks.pan")


def test_a_block_may_follow_and_be_alone() -> None:
    assert [n.name for n in necks("fpn+cbam")] == ["necks.fpn", "necks.at_levels"]
    (alone,) = necks("cbam")
    assert alone.get("block") == part(CBAM)


def test_dotted_arguments_reach_the_block() -> None:
    first, _ = necks("spp+pan", neck__0__block__channels="64", neck__0__strides="32")
    assert (first.get("block").get("channels"), first.get("strides")) == (64, (32,))
    assert necks("cbam", neck__strides="8,16", neck__block__reduction="4")[0].get("strides") == (8, 16)
    second = necks("fpn+rfb-s", neck__1__block="se")[1]
    assert second.get("block").name == "blocks.se"


def test_a_neck_swapped_for_a_chain_with_blocks_gives_what_it_had() -> None:
    model = compose_model("fcos", neck="fpn+cbam", overrides={"neck.0.channels": "32"})
    again = compose_model("centernet_points", neck="cbam+upsample").get("neck")
    assert model.get("neck")[0].get("channels") == 32
    assert again[0].get("finest") == 4


@pytest.mark.parametrize("chain", ["spp+fpn", "fpn+cbam", "aspp+cbam+pan", "rfb-s+fpn+sam"])
def test_a_detector_with_blocks_runs_and_goes_through_yaml(chain: str) -> None:
    part_ = compose_model("fcos", num_classes=2, neck=chain, overrides=TINY)
    assert from_yaml(to_yaml(part_)) == part_
    model = part_.build().eval()
    images = Images(torch.zeros(1, 3, 64, 64), torch.full((1, 2), 64.0), torch.tensor([[1.0, 1, 0, 0]]))
    with torch.no_grad():
        assert model(images).logits.shape == (1, 64 + 16 + 4 + 1 + 1, 2)


@pytest.mark.parametrize("block", names("blocks"))
def test_every_block_goes_into_a_stage(block: str) -> None:
    overrides = TINY | {"backbone.block": block, "backbone.block_strides": "32"}
    model = create("fcos", num_classes=2, overrides=overrides)
    assert list(model.backbone.blocks) == ["32"]  # type: ignore[arg-type]
    assert model.backbone.out_specs[-1].channels == model.backbone.blocks["32"].out_channels  # type: ignore[index]


def test_a_block_moves_on_with_a_swapped_backbone() -> None:
    first = compose_model("fcos", overrides={"backbone.block": "cbam", "backbone.block_strides": "16,32"})
    assert first.get("backbone").get("block_strides") == (16, 32)
    none = compose_model("fcos", overrides={"backbone.block": "none"})
    assert none.get("backbone").get("block") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neck": "spq+pan"}, r"no neck is called 'spq'; did you mean '?spp"),
        ({"overrides": {"backbone.block": "fpn"}}, "block: expected a Block part or none, got 'fpn'"),
        ({"overrides": {"neck.block": "cbam"}}, "FPN has no argument 'block'"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PartError, match=message):
        compose_model("fcos", **arguments)
