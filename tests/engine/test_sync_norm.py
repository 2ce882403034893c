"""Norms over ranks: the same as one norm over all of their images; frozen ones are left alone."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from timm.layers import BatchNormAct2d
from torch import nn
from training.small import data_set, recipe, run

from torso.engine.sync_norm import SyncBatchNorm, synchronise

SHARES = (slice(0, 1), slice(1, 4))  # unequal


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)).double()
    layers[1].running_mean.normal_()
    return layers


def make_images() -> torch.Tensor:
    return torch.randn(4, 3, 8, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3 + 2


def descended(net: nn.Sequential, x: torch.Tensor, forward=None) -> dict[str, torch.Tensor]:
    """What a step over x leaves: outputs, gradients of weights and images, statistics."""
    x = x.clone().requires_grad_()
    out = (forward or net)(x)
    (out.sin() * torch.arange(out.shape[-1])).sum().backward()
    gradients = {f"grad.{n}": p.grad for n, p in net.named_parameters()}
    statistics = {n: b.clone() for n, b in net.named_buffers()}
    return {"out": out.detach(), "x": x.grad, **gradients, **statistics}


def _rank(rank: int, store: str, results: str, compile: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    net = network()
    synchronise(net, 2)
    forward = torch.compile(net.forward, backend="aot_eager", fullgraph=True, dynamic=False) if compile else None
    torch.save(descended(net, make_images()[SHARES[rank]], forward), f"{results}.{rank}")
    dist.destroy_process_group()


@pytest.mark.parametrize("compile", [False, True], ids=["eager", "compiled"])
def test_two_ranks_norm_like_one_with_all_images(tmp_path, compile):
    wanted = descended(network(), make_images())
    context = mp.get_context("fork")
    arguments = (str(tmp_path / "store"), str(tmp_path / "out"), compile)
    children = [context.Process(target=_rank, args=(r, *arguments)) for r in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    ours = [torch.load(tmp_path / f"out.{r}", weights_only=True) for r in (0, 1)]
    for name, value in wanted.items():
        for rank, share in enumerate(SHARES):
            if name in ("out", "x"):
                torch.testing.assert_close(ours[rank][name], value[share], rtol=1e-9, atol=1e-9)
            elif not name.startswith("grad."):
                torch.testing.assert_close(ours[rank][name], value, rtol=1e-9, atol=1e-9)
        if name.startswith("grad."):
            torch.testing.assert_close(ours[0][name] + ours[1][name], value, rtol=1e-9, atol=1e-9)


def test_frozen_norms_stay_and_learning_ones_are_replaced():
    part = recipe().override("model.backbone.frozen_stride", 4)
    model = part.build().model.build().train()
    frozen = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and not m.training]
    learning = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    assert frozen
    assert learning
    twin = copy.deepcopy(model)
    said = synchronise(model, 2)
    assert said == f"sync_bn: {len(learning)} norms share their statistics over 2 devices, {len(frozen)} are frozen"
    now = list(model.modules())
    assert all(any(kept is m for m in now) and not kept.training for kept in frozen)
    assert sum(isinstance(m, SyncBatchNorm) and m.training for m in now) == len(learning)
    model.train()
    assert not any(m.training for m in frozen)
    assert model.state_dict().keys() == twin.state_dict().keys()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(model.eval().backbone(x), twin.eval().backbone(x), strict=True):
            assert torch.equal(ours, theirs)


def test_one_device_changes_nothing_and_says_so(tmp_path, capsys):
    run(recipe(steps=1, sync_bn=True), data_set(tmp_path / "set", 2, 1), tmp_path / "run", devices=1, progress=True)
    assert "sync_bn: there is one device" in capsys.readouterr().out
    net = network()
    synchronise(net, 1)
    assert not any(isinstance(m, SyncBatchNorm) for m in net.modules())


def test_a_norm_that_cannot_be_synchronised_is_refused():
    class Odd(nn.BatchNorm2d):
        pass

    for norm in (Odd(3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3, momentum=None)):
        with pytest.raises(ValueError, match="leave sync_bn out"):
            synchronise(nn.Sequential(norm), 2)
