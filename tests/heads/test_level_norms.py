"""The dense head's norms a level over shared convolutions, and its separable convolutions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from torso.heads.dense import DenseHead
from torso.layers.separable import SeparableConv2d
from torso.types import FeatureSpec, Images

SPECS = tuple(FeatureSpec(8, (s, s)) for s in (8, 16, 32))


def features(batch: int = 2, size: int = 96) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    # levels of unlike scale: what one norm for all of them would mix up
    return [torch.randn(batch, 8, size // s.stride, size // s.stride, generator=g) * s.stride for s in SPECS]


def images(batch: int = 2, size: int = 96) -> Images:
    return Images(torch.zeros(batch, 3, size, size), torch.full((batch, 2), float(size)), torch.ones(batch, 4))


def head(**more: Any) -> DenseHead:
    torch.manual_seed(0)
    return DenseHead(SPECS, **{"num_classes": 3, "channels": 16, "tower": 2, "norm": "bn", "level_norms": True, **more})


def test_convolutions_are_shared_and_norms_are_not() -> None:
    own, one = head(), head(norm="gn", level_norms=False, tower_bias=False)
    norms = sum(m.weight.numel() + m.bias.numel() for m in own.modules() if isinstance(m, nn.BatchNorm2d))
    assert norms == 2 * 2 * 3 * 2 * 16  # towers, layers, levels, weight and bias, channels
    assert sum(p.numel() for p in own.parameters()) - norms == sum(p.numel() for p in one.parameters()) - 2 * 2 * 2 * 16
    assert set(one.state_dict()) == {
        *(
            f"branches.0.{t}_tower.{i}.{n}"
            for t in ("cls", "box")
            for i in (0, 1)
            for n in ("conv.weight", "norm.weight", "norm.bias")
        ),
        *(f"branches.0.{t}_out.{n}" for t in ("cls", "box") for n in ("weight", "bias")),
    }
    assert "branches.0.cls_tower.1.norm.2.running_mean" in own.state_dict()


@pytest.mark.parametrize("separable", [False, True])
def test_each_level_is_a_head_of_its_own_with_the_shared_weights(separable: bool) -> None:
    """The same numbers as one head a level, each given the shared convolutions and the norms of its level."""
    h = head(separable=separable).train()
    with torch.no_grad():
        for m in h.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(0.5, 2)
    raw = copy.deepcopy(h)(features(), images())
    start = 0
    for i, (spec, size) in enumerate(zip(SPECS, raw.priors.level_sizes, strict=True)):
        single = DenseHead(
            [spec], num_classes=3, channels=16, tower=2, norm="bn", separable=separable, finest=spec.stride
        )
        picked = {}
        for key, value in h.state_dict().items():
            path, _, rest = key.partition(".norm.")
            level, _, name = rest.partition(".")
            if not rest:
                picked[key] = value
            elif level == str(i):
                picked[f"{path}.norm.{name}"] = value
        single.load_state_dict(picked)
        want = single.train()([features()[i]], images())
        torch.testing.assert_close(raw.logits[:, start : start + size], want.logits)
        torch.testing.assert_close(raw.codes[:, start : start + size], want.codes)
        start += size


def test_training_statistics_hold_in_eval_mode() -> None:
    """What one BatchNorm over levels fails: outputs in eval mode are those of training once statistics have settled."""
    h = head()
    for m in h.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = None  # the plain average of what was seen
    with torch.no_grad():
        trained = h.train()(features(8), images(8))
        evaluated = h.eval()(features(8), images(8))
    torch.testing.assert_close(evaluated.logits, trained.logits, rtol=0.02, atol=2e-3)


def test_separable_parameters_and_classes() -> None:
    h = head(separable=True)
    a = h.priors.per_location[0]
    layers = (8 * 9 + 8 * 16) + (16 * 9 + 16 * 16)
    out = sum(16 * 9 + 16 * v * a + v * a for v in (3, 4))
    assert sum(p.numel() for p in h.parameters()) == 2 * layers + 2 * 2 * 3 * 2 * 16 + out
    weight = "branches.0.cls_out.pointwise.weight"
    assert h.class_rows(weight) is not None
    assert h.class_rows(weight).anchors == a
    assert h.class_rows("branches.0.cls_out.depthwise.weight") is None
    assert torch.allclose(h(features(), images()).logits.sigmoid().mean(), torch.tensor(0.01), atol=0.01)


def test_separable_convolution_is_the_product_of_its_factors() -> None:
    layer = SeparableConv2d(3, 5).double()
    dense = torch.einsum("oc,cij->ocij", layer.pointwise.weight[:, :, 0, 0], layer.depthwise.weight[:, 0])
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, dense, layer.pointwise.bias, padding=1))


@pytest.mark.parametrize("separable", [False, True])
def test_compiles_in_one_graph_and_every_parameter_learns(separable: bool) -> None:
    h = head(separable=separable, quality="box", uncertainty=True, level_scale=True)
    torch.compiler.reset()
    raw = torch.compile(h, fullgraph=True, backend="aot_eager")(features(), images())
    sum(t.square().sum() for t in (raw.logits, raw.codes, raw.quality, raw.log_variance)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in h.parameters())


def test_one_batch_norm_for_all_levels_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"set head\.level_norms=True"):
        head(level_norms=False)
    with pytest.raises(ValueError, match=r"set head\.shared=True and head\.norm='bn'"):
        head(norm="none")
    with pytest.raises(ValueError, match=r"set head\.shared=True and head\.norm='bn'"):
        head(shared=False)
