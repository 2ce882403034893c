"""SpineNet beside its published sizes, and its graph by perturbation: no other implementation can be installed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from torso.backbones.spinenet import SpineNet
from torso.compose import built_on_meta, compose_model
from torso.parts import named, part
from torso.summary import summarise

IMAGENET_CLASSES = 1001  # the authors' classifier has a background class
SIZES = {  # body M, endpoints M; published: parameters M and multiply-adds at 224 of the classifier
    "spinenet_49s": (8.705, 0.384, None, None),
    "spinenet_49": (20.649, 1.182, 22.1, 3.5),
    "spinenet_96": (35.081, 1.182, 36.5, 5.7),
    "spinenet_143": (59.065, 1.182, 60.5, 9.1),
    "spinenet_190": (123.523, 3.065, 127.1, 19.1),
}
PARENTS = {  # of nodes 2 to 16, typed from the paper's table a second time
    2: (0, 1), 3: (0, 1), 4: (2, 3), 5: (2, 4), 6: (3, 5), 7: (3, 5), 8: (6, 7), 9: (6, 8), 10: (8, 9), 11: (8, 10),
    12: (5, 10), 13: (4, 10), 14: (7, 12, 11), 15: (5, 14), 16: (12, 14),
}  # fmt: skip
LEVELS = {3: 13, 4: 12, 5: 14, 6: 16, 7: 15}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small() -> SpineNet:
    """A narrow one whose every weight matters."""
    torch.manual_seed(0)
    return SpineNet(filter_scale=0.125, channels=8).eval()


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_published_ones(name: str) -> None:
    body, ends, parameters, gmac = SIZES[name]
    backbone = built_on_meta(named(name, "backbones"))
    endpoints = count(backbone.endpoints)
    assert round((count(backbone) - endpoints) / 1e6, 3) == body
    assert round(endpoints / 1e6, 3) == ends
    if parameters is None or gmac is None:
        return
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(torch.zeros(1, 3, 224, 224, device="meta"))
    classifier = (backbone.out_specs[0].channels + 1) * IMAGENET_CLASSES
    assert round((count(backbone) + classifier) / 1e6, 1) == parameters
    assert round(counter.get_total_flops() / 2e9, 1) == gmac


def test_levels() -> None:
    backbone = small()
    assert [(s.channels, s.stride) for s in backbone.out_specs] == [(8, 2**level) for level in LEVELS]
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 333, 250))
    assert [tuple(m.shape[2:]) for m in maps] == [(-(-333 // 2**level), -(-250 // 2**level)) for level in LEVELS]


def node_outputs(backbone: SpineNet, x: Tensor, change: int | None = None) -> dict[int, Tensor]:
    """The map of every node, and of the endpoints as 103 to 107; one node's map is moved by a constant."""
    seen: dict[int, Tensor] = {}

    def watch(node: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def hook(module: nn.Module, inputs: object, out: Tensor) -> Tensor:
            seen[node] = out + 0.5 if node == change else out
            return seen[node]

        return hook

    handles = [m.register_forward_hook(watch(i)) for i, m in enumerate([*backbone.initial, *backbone.cells])]
    handles += [
        m.register_forward_hook(watch(100 + level)) for level, m in zip(LEVELS, backbone.endpoints, strict=True)
    ]
    with torch.no_grad():
        backbone(x)
    for h in handles:
        h.remove()
    return seen


@pytest.mark.parametrize("changed", range(17))
def test_a_change_of_a_node_reaches_its_descendants_and_nothing_else(changed: int) -> None:
    """Node 11 has one reader, node 14, which takes it without resampling."""
    backbone, x = small(), torch.randn(1, 3, 256, 256)
    reached = {changed}
    if changed == 0:
        reached.add(1)
    for node, parents in PARENTS.items():
        if reached & set(parents):
            reached.add(node)
    reached |= {100 + level for level, node in LEVELS.items() if node in reached}
    before, after = node_outputs(backbone, x), node_outputs(backbone, x, changed)
    assert {n for n in before if not torch.equal(before[n], after[n])} == reached


def test_node_11_is_added_to_node_14_as_it_is() -> None:
    """Node 14's blocks see act(r7 + r12 + node 11): with node 14's resampling silenced, act(node 11)."""
    backbone = small()
    cell = backbone.cells[14 - 2]
    for r in (cell.first, cell.second):
        nn.init.zeros_(r.expand.norm.weight)
    seen: list[Tensor] = []
    cell.blocks.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    maps = node_outputs(backbone, torch.randn(1, 3, 128, 128))
    torch.testing.assert_close(seen[0], maps[11].relu())


def test_no_activation_between_resampling_and_the_sum_and_one_at_the_endpoints() -> None:
    backbone = small()
    for cell in backbone.cells:
        assert isinstance(cell.first.expand.act, nn.Identity)
        assert isinstance(cell.second.expand.act, nn.Identity)
    with torch.no_grad():
        assert all(m.min() >= 0 for m in backbone(torch.randn(1, 3, 128, 128)))


def test_every_convolution_has_weights_of_its_own_and_learns() -> None:
    backbone = small().train()
    convs = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert len({c.weight.data_ptr() for c in convs}) == len(convs) == 130
    assert not any(c.bias is not None for c in convs)
    torch.stack([m.square().mean() for m in backbone(torch.randn(2, 3, 128, 128))]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in backbone.parameters())


def test_norms_and_stochastic_depth() -> None:
    backbone = part(SpineNet, filter_scale=0.125, channels=8, drop_path=0.3, activation="silu").build()
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}
    assert backbone.cells[-1].blocks[0].drop.drop_prob == pytest.approx(0.3)
    assert backbone.cells[0].blocks[0].drop.drop_prob == pytest.approx(0.02)
    x = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        assert not torch.equal(backbone(x)[0], backbone(x)[0])
        backbone.eval()
        assert torch.equal(backbone(x)[0], backbone(x)[0])


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"SpineNet.filter_scale: expected a number above 0, got 0"):
        SpineNet(filter_scale=0)


DETECTORS = {  # published: size, parameters M, multiply-adds G; multiply-adds of the convolutions alone, counted
    "spinenet_49": (640, 28.5, 85.4, 85.3),
    "spinenet_96": (1024, 43.0, 265.4, 265.0),
    "spinenet_143": (1280, 67.0, 524.0, 523.3),
    "spinenet_190": (1280, 163.6, 1885.0, 1881.7),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_the_summary_of_its_detectors_has_the_published_counts(name: str) -> None:
    """91 outputs, as the authors count COCO's labels. Their multiply-adds hold norms too, ours convolutions: 0.2 %."""
    size, parameters, published, counted = DETECTORS[name]
    summary = summarise(compose_model(name, num_classes=91))
    assert summary.input_hw == (size, size)
    assert round(summary.parameters / 1e6, 1) == parameters
    assert round(summary.flops / 2e9, 1) == counted
    assert summary.flops / 2e9 == pytest.approx(published, rel=2e-3)


def test_49s_has_what_its_published_widths_give() -> None:
    summary = summarise(compose_model("spinenet_49s", num_classes=91))
    assert (round(summary.parameters / 1e6, 2), round(summary.flops / 2e9, 1)) == (11.26, 30.8)
