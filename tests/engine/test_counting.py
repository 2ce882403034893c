"""Counting from targets alone gives what a pass of the network would have counted, for every model that allows it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract.contract_cases import images, smallest, targets
from training.small import freeze_unused

from torso.engine.counting import Counting, map_sizes
from torso.engine.step import TrainStep, backward_window
from torso.parts import Part, find, names, part
from torso.training.samplers.hard_negative import HardNegativeSampler
from torso.training.samplers.random import RandomSampler

WINDOW = [(images((64, 96)), targets()), (images((64, 96)), targets("none")), (images((96, 64)), targets("crowd"))]


def recipe_of(name: str) -> Part[Any]:
    make = find(name, "recipes")
    return smallest(make() if name == "rpn" else make(num_classes=3))


def one_of_each_kind() -> list[str]:
    """Zoo models that differ in criterion, head or backbone; the other sizes of a family would say the same again."""
    first: dict[tuple[str, ...], str] = {}
    for name in names("zoo"):
        recipe = recipe_of(name)
        model = recipe.get("model")
        first.setdefault((recipe.get("criterion").name, model.get("head").name, model.get("backbone").name), name)
    return list(first.values())


def step_of(name: str, **changes: object) -> TrainStep:
    recipe = recipe_of(name)
    for path, value in changes.items():
        recipe = recipe.override(path.replace("__", "."), value)
    torch.manual_seed(0)
    step = TrainStep(recipe.get("model").build().train(), recipe.get("criterion").build())
    freeze_unused(step)
    return step


def descended(step: TrainStep, counting: Counting | None):
    step.zero_grad(set_to_none=True)
    loss = backward_window(step, step, WINDOW, extra=torch.zeros(0), counts_of=counting, seed=(1, 2))
    return loss, {n: p.grad.clone() for n, p in step.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", one_of_each_kind())
def test_loss_and_gradients_are_those_of_the_counting_pass(name):
    step = step_of(name)
    if step.criterion.counts_need_predictions:
        with pytest.raises(NotImplementedError, match="counts what the network predicts"):
            step.criterion.counts(step.model, *WINDOW[0], ((8, 12),))
        return
    before = {n: b.clone() for n, b in step.named_buffers()}
    by_a_pass, wanted = descended(step, None)
    moved = {n: b.clone() for n, b in step.named_buffers()}
    for n, b in step.named_buffers():
        b.copy_(before[n])
    alone, ours = descended(step, Counting(step))
    assert alone.names == by_a_pass.names
    assert alone.counts.tolist() == by_a_pass.counts.tolist()
    assert max(alone.counts.tolist()) > 1
    assert torch.equal(alone.loss, by_a_pass.loss)
    assert ours.keys() == wanted.keys()
    assert all(torch.equal(gradient, wanted[n]) for n, gradient in ours.items())
    assert all(torch.equal(b, moved[n]) for n, b in step.named_buffers())


def test_the_network_runs_once_a_micro_batch():
    step = step_of("fcos")
    calls = []
    step.model.backbone.register_forward_hook(lambda module, given, out: calls.append(given[0].device.type))
    counting = Counting(step)
    for _ in range(2):
        descended(step, counting)
    assert calls.count("cpu") == 2 * len(WINDOW)
    assert calls.count("meta") == 2  # one a size of images


@pytest.mark.parametrize("name", ["retinanet", "fcos", "atss", "centernet_points", "rpn"])
def test_families_that_count_without_the_network(name):
    assert not step_of(name).criterion.counts_need_predictions


def test_two_stages_count_the_proposals_that_they_sample():
    assert step_of("faster_rcnn").criterion.counts_need_predictions


@pytest.mark.parametrize("name", ["fcos", "rpn"])
def test_counting_compiles_whole(name):
    step = step_of(name)
    sizes = map_sizes(step.model, (64, 96))
    compiled = torch.compile(step.counts, backend="aot_eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(*WINDOW[0], sizes), step.counts(*WINDOW[0], sizes))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("retinanet", {"criterion__normaliser": "image"}),
        ("retinanet", {"criterion__normaliser": "sampled"}),
        ("fcos", {"criterion__box__weighting": "none"}),
        ("rpn", {"criterion__sampler__number": 5}),
        ("rpn", {"criterion__normaliser": "positives", "criterion__sampler__positive_share": 0.1}),
        ("centernet_points", {"criterion__normaliser": "peaks"}),
    ],
)
def test_every_normaliser(name, changes):
    step = step_of(name, **changes)
    counting = Counting(step)
    for batch in WINDOW:
        torch.manual_seed(5)  # another draw of the sampler than below
        wanted = torch.stack([term.count for term in step(*batch).values()])
        torch.manual_seed(6)
        assert counting(*batch).tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("name", "changes", "ahead"),
    [
        (
            "fcos",
            {"criterion__sampler": part(RandomSampler, number=12)},
            False,
        ),  # the kept positives' centerness is counted
        ("rpn", {}, True),
        ("retinanet", {"criterion__sampler": part(HardNegativeSampler, ratio=2.0)}, True),
        ("retinanet", {"criterion__sampler": part(RandomSampler, number=12), "criterion__per_level": True}, False),
        ("yolov3", {"criterion__sampler": part(RandomSampler, number=12)}, False),
    ],
)
def test_sampled_windows_are_divided_by_what_their_losses_drew(name, changes, ahead):
    step = step_of(name, **changes)
    assert step.criterion.counts_need_predictions is not ahead
    drawn = []

    def forward(images, targets):
        terms = step(images, targets)
        if torch.is_grad_enabled():
            drawn.append(torch.stack([t.count.detach().float() for t in terms.values()]))
        return terms

    for _ in range(2):  # one seed, one draw: a resumed run counts the same
        drawn.clear()
        counting = Counting(step) if ahead else None
        loss = backward_window(step, forward, WINDOW, extra=torch.zeros(0), counts_of=counting, seed=(3, 1))
        assert len(drawn) == len(WINDOW)
        assert loss.counts.tolist() == torch.stack(drawn).sum(0).tolist()
        assert loss.counts.max() > 1


def test_sizes_are_found_without_touching_the_model():
    step = step_of("retinanet")
    before = {n: (v, v.clone()) for n, v in step.state_dict(keep_vars=True).items()}
    drawn = torch.get_rng_state()
    raw = step_of("retinanet").model(images((96, 160)))
    torch.set_rng_state(drawn)
    assert map_sizes(step.model, (96, 160)) == tuple((h, w) for h, w, _ in raw.priors.levels)
    assert torch.equal(drawn, torch.get_rng_state())
    assert step.model.training
    for name, value in step.state_dict(keep_vars=True).items():
        assert value is before[name][0]
        assert torch.equal(value, before[name][1])
