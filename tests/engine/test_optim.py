"""Optimisers, schedules and the step that clips, unscales or does not happen."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from training.small import annotations, built, recipe

from torso.engine.optim import Schedule, make_optimizer, prepare_step, scaled_lr, set_lr

OPTIMIZERS = ["sgd", "adam", "adamw"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return built(recipe(), annotations(tmp_path_factory.mktemp("set")))


def optimizer_of(model, name="sgd", **changes):
    return make_optimizer(name, model, **{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, **changes})


def with_gradients(model, seed=0, scale=1.0):
    torch.manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn_like(p) * scale


def step(optimizer, loss=0.0, clip_norm=None, scale=None):
    verdict = prepare_step(optimizer, torch.tensor(loss), clip_norm=clip_norm, scale=scale)
    optimizer.step()
    return verdict


def state_of(model, optimizer):
    states = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    return [t.clone() for t in (*model.parameters(), *states)]


def test_norms_and_biases_do_not_decay_and_the_backbone_has_its_own_rate(model):
    optimizer = optimizer_of(model, backbone_lr=0.1)
    backbone = {id(p) for p in model.backbone.parameters()}
    seen = 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            seen += 1
            assert group["weight_decay"] == (0.01 if p.ndim > 1 else 0.0)
            assert group["base_lr"] == pytest.approx(0.01 if id(p) in backbone else 0.1)
    assert seen == len([p for p in model.parameters() if p.requires_grad])


def test_what_was_added_to_a_published_backbone_learns_at_the_full_rate(tmp_path):
    added = built(recipe(**{"backbone.block": "cbam", "backbone.block_strides": (16,)}), annotations(tmp_path))
    rate = {id(p): g["base_lr"] for g in optimizer_of(added, backbone_lr=0.1).param_groups for p in g["params"]}
    blocks = [p for p in added.backbone.blocks.parameters() if p.requires_grad]
    assert blocks
    assert all(rate[id(p)] == 0.1 for p in blocks)
    assert all(rate.get(id(p), 0.01) == pytest.approx(0.01) for p in added.backbone.body.parameters())


def test_a_model_that_is_frozen_whole_is_refused(model):
    frozen = copy.deepcopy(model).requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model learns"):
        optimizer_of(frozen)


def test_warmup_rises_and_cosine_falls_to_a_hundredth():
    schedule = Schedule(100, 10, "cosine")
    factors = [schedule(s) for s in range(100)]
    assert factors[0] == pytest.approx(1e-3)
    assert factors[10] == 1.0
    assert factors[99] == pytest.approx(0.01)
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert len(set(factors)) == 100


def test_step_schedule_falls_at_its_milestones():
    schedule = Schedule(12, 0, "step", (8 / 12, 11 / 12))
    assert [schedule(s) for s in (0, 7, 8, 10, 11)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert [Schedule(5, 0, "constant")(s) for s in range(5)] == [1.0] * 5


def test_a_run_shorter_than_its_warmup_still_starts_low():
    schedule = Schedule(4, 500, "cosine")
    assert schedule(0) == pytest.approx(1e-3)
    assert max(schedule(s) for s in range(4)) < 1


def test_the_rate_scales_with_the_effective_batch():
    assert scaled_lr(0.01, 64, 16) == pytest.approx(0.04)
    assert scaled_lr(0.01, 64, None) == 0.01


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fused_step_equals_the_plain_one_with_clipping(model, name):
    ours = copy.deepcopy(model)
    plain = copy.deepcopy(model)
    fused = optimizer_of(ours, name)
    twin = dict(zip(map(id, ours.parameters()), plain.parameters(), strict=True))
    groups = [
        {"params": [twin[id(p)] for p in g["params"]], "weight_decay": g["weight_decay"]} for g in fused.param_groups
    ]
    cls = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    reference = cls(groups, lr=0.1, foreach=False, **({"momentum": 0.9} if name == "sgd" else {}))
    for round_ in range(3):
        with_gradients(ours, round_)
        with_gradients(plain, round_)
        verdict = step(fused, clip_norm=5.0)
        norm = nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], 5.0)
        reference.step()
        assert verdict[0].item() == pytest.approx(norm.item(), rel=1e-5)
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("bad", ["gradient", "loss", "infinite gradient"])
def test_a_bad_step_touches_nothing_and_the_next_is_as_if_it_had_not_been(model, name, first, bad):
    ours, undisturbed = copy.deepcopy(model), copy.deepcopy(model)
    pair = [(m, optimizer_of(m, name)) for m in (ours, undisturbed)]
    for m, optimizer in pair[: 0 if first else 2]:
        with_gradients(m, 1)
        step(optimizer)
    before = state_of(*pair[0]) if not first else [p.clone() for p in ours.parameters()]
    with_gradients(ours, 2)
    if bad != "loss":
        gradient = next(ours.parameters()).grad
        gradient[(0,) * gradient.dim()] = float("nan" if bad == "gradient" else "inf")
    verdict = step(pair[0][1], loss=float("nan") if bad == "loss" else 0.0, clip_norm=1.0)
    assert verdict[1] == 1
    after = state_of(*pair[0]) if not first else list(ours.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    for m, optimizer in pair:
        with_gradients(m, 3)
        assert step(optimizer)[1] == 0
    assert all(torch.equal(a, b) for a, b in zip(state_of(*pair[0]), state_of(*pair[1]), strict=True))


def test_a_scaled_loss_gives_the_unscaled_step_and_norm(model):
    ours, plain = copy.deepcopy(model), copy.deepcopy(model)
    a, b = optimizer_of(ours), optimizer_of(plain)
    with_gradients(ours, 0, scale=1024.0)
    with_gradients(plain, 0)
    first = step(a, clip_norm=3.0, scale=torch.tensor(1024.0))
    second = step(b, clip_norm=3.0)
    assert first[0].item() == pytest.approx(second[0].item(), rel=1e-6)
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-6, atol=1e-7)


def test_set_lr_scales_every_group(model):
    optimizer = optimizer_of(model, backbone_lr=0.5)
    assert set_lr(optimizer, 0.1) == pytest.approx(0.01)
    assert sorted({round(g["lr"], 6) for g in optimizer.param_groups}) == [0.005, 0.01]
