"""Every two parts meet: backbone, block, neck and head of a covering array run and learn; the rest says why not."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from composition_cases import (
    AS_IT_IS,
    Row,
    backbones,
    build_behind,
    covering_array,
    factors,
    model_of,
    refusal,
    settings_of,
    specs_of,
)
from contract_cases import BACKBONE_SPECS, check_gradients, default, images, maps, smallest
from torch import Tensor, nn

from torso.models.detector import Detector
from torso.parts import names

SIZE = (64, 64)
# geometry forbids a pair, whatever is set, only where three levels are gathered from a backbone of two
TOO_FEW_LEVELS = {"small_ssd_vgg", "fastestdet"}
REMEDY = re.compile(r"\b(set|choose|put|give|name|start|take)\b")


def tensors(value: Any) -> Iterator[Tensor]:
    """All that gradients can reach in raw predictions."""
    if isinstance(value, Tensor):
        if value.requires_grad:
            yield value
    elif isinstance(value, list | tuple):
        for v in value:
            yield from tensors(v)


def check_row(row: Row, backbone: Any) -> None:
    """Forward, and backward to every parameter; what the head says depends on the image."""
    torch.manual_seed(0)
    settings = settings_of(row)
    assert settings is not None
    backbone.zero_grad(set_to_none=True)
    batch = images(SIZE)
    features = backbone(batch.pixels / 255)
    necks, head = build_behind(backbone.out_specs, model_of(row, settings))
    stages = [features]
    for neck in necks:
        stages.append(neck(stages[-1]))
    raw = list(tensors(head(stages[-1], batch)))
    said = torch.stack([t.float().square().mean() for t in raw]).sum()
    reached = [g for g in torch.autograd.grad(said, features, retain_graph=True, allow_unused=True) if g is not None]
    assert reached, "the head sees nothing of the backbone"
    assert all(g.isfinite().all() for g in reached)
    # maps that no later part reads still belong to somebody else's model
    unread = torch.stack([m.float().square().mean() for stage in stages for m in stage]).sum()
    (said + unread).backward()
    check_gradients(nn.ModuleList([backbone, *necks, head]))


@pytest.mark.parametrize("name", backbones())
def test_every_two_parts_meet_run_and_learn(name: str) -> None:
    rows = [row for row in covering_array()[0] if row.backbone == name]
    torch.manual_seed(0)
    backbone = backbones()[name].build().train()
    failed = {}
    for row in rows:
        try:
            check_row(row, backbone)
        except Exception as error:  # all of them are told, not the first alone
            failed[row] = f"{type(error).__name__}: {error}"
    assert rows
    assert not failed


def test_the_array_holds_every_pair_that_can_be() -> None:
    rows, never = covering_array()
    met = {pair for row in rows for pair in itertools.combinations(enumerate(row), 2)}
    wanted = {
        ((a, x), (b, y)) for a, b in itertools.combinations(range(4), 2) for x in factors()[a] for y in factors()[b]
    }
    assert met | never == wanted
    assert not met & never
    assert len(rows) < 2 * max(len(a) * len(b) for a, b in itertools.combinations(factors(), 2))


def test_only_geometry_forbids_a_pair() -> None:
    """A pair that no settings bring together has its reason above, or it is a fault."""
    assert [{name for _, name in pair} for pair in covering_array()[1]] == [TOO_FEW_LEVELS]


@pytest.mark.parametrize("backbone", ["timm_resnet", "small_spinenet", "small_ssd_vgg"])
def test_a_refusal_names_the_level_what_there_is_and_the_remedy(backbone: str) -> None:
    """Of all necks and heads behind it; that it is a ValueError is seen by refusal(), which lets others through."""
    said = [refusal(Row(backbone, "none", neck, head)) for neck in factors().neck for head in factors().head]
    refusals = [r for r in said if r is not None]
    assert refusals
    for text in refusals:
        assert re.search(r"\d", text), text
        assert re.search("stride|level|scale", text), text
        assert REMEDY.search(text), text


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            Row("small_spinenet", "none", "fpn", "centernet_points"),
            r"stride 4.*\[8, 16, 32, 64, 128\].*neck.finest",
        ),
        (Row("small_spinenet", "none", "none", "centernet_points"), r"stride 4.*\[8, 16, 32, 64, 128\].*finest=8"),
        (Row("small_ssd_vgg", "none", "sfam", "faster_rcnn"), r"stride 4.*\[8, 16\].*set neck.finest"),
        (Row("timm_resnet", "none", "nas_fpn", "centernet_points"), r"five levels.*\[2, 4, 8, 16, 32\].*coarsest=64"),
        (Row("timm_resnet", "none", "matrix", "faster_rcnn"), r"unequal strides.*\(4, 8\).*band=0"),
        (Row("timm_resnet", "none", "none", "faster_rcnn"), r"\[4, 8, 16, 32\].*one width|one width.*\[4, 8, 16, 32\]"),
    ],
)
def test_a_model_that_geometry_forbids_is_refused_by_the_detector(row: Row, says: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=says):
        model_of(row, AS_IT_IS).build()


def test_levels_that_a_remedy_names_are_enough() -> None:
    """SpineNet starts at stride 8: CenterNet, which wants 4, works on it as soon as both are told."""
    row = Row("small_spinenet", "none", "fpn", "centernet_points")
    settings = settings_of(row)
    assert settings is not None
    assert dict(settings.head) == {"finest": 8}
    with torch.device("meta"):
        model = model_of(row, settings).build()
    assert isinstance(model, Detector)
    assert specs_of("small_spinenet")[0].stride == 8


@pytest.mark.parametrize("name", names("necks"))
def test_neck_is_exported(name: str) -> None:
    torch.manual_seed(0)
    neck = smallest(default("necks", name)).build(BACKBONE_SPECS).eval()
    x = maps(BACKBONE_SPECS)
    with torch.no_grad():
        exported = torch.export.export(neck, (x,)).module()(x)
        torch.testing.assert_close(list(exported), list(neck(x)))


@pytest.mark.parametrize("name", backbones())
def test_backbone_is_exported(name: str) -> None:
    torch.manual_seed(0)
    backbone, x = backbones()[name].build().eval(), torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        exported = torch.export.export(backbone, (x,)).module()(x)
        torch.testing.assert_close(list(exported), list(backbone(x)))
