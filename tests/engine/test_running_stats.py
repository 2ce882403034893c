"""Running statistics: quick at the start, then BatchNorm's own; nothing of a step that did not happen."""

from __future__ import annotations

import copy

import torch
from torch import nn

from torso.engine.running_stats import RunningStatistics

GO, SKIP = torch.tensor(0.0), torch.tensor(1.0)


def norms(momentum: float | None = 0.01) -> nn.Sequential:
    """Two norms of different width."""
    return nn.Sequential(nn.BatchNorm2d(3, momentum=momentum), nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5, momentum=momentum))


def batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [3.0 + 0.1 * torch.randn(4, 3, 6, 7, generator=generator) for _ in range(count)]


def train(model: nn.Module, images: list[torch.Tensor], *, forwards: int = 1, skip: tuple[int, ...] = ()) -> None:
    running = RunningStatistics(model.train())
    for step in range(len(images) // forwards):
        running.snapshot()
        for x in images[step * forwards : (step + 1) * forwards]:
            model(x)
        running.restore(SKIP if step in skip else GO)


def test_early_batches_count_more_and_the_start_is_soon_forgotten():
    model, seen = norms(), batches(6)
    plain = copy.deepcopy(model)
    train(model, seen)
    for x in seen:
        plain(x)
    mean, var = torch.zeros(3), torch.ones(3)
    for n, x in enumerate(seen):
        mean = mean + (x.mean((0, 2, 3)) - mean) * 9 / (n + 10)
        var = var + (x.transpose(0, 1).flatten(1).var(1) - var) * 9 / (n + 10)
    torch.testing.assert_close(model[0].running_mean, mean, rtol=1e-5, atol=0)
    torch.testing.assert_close(model[0].running_var, var, rtol=1e-3, atol=0)
    assert (model[0].running_var < 0.012).all()  # of maps whose variance is 0.01
    assert (plain[0].running_var > 0.9).all()  # what torch leaves is the 1 of the start
    assert int(model[2].num_batches_tracked) == 6


def test_two_passes_a_step_are_one_move():
    """To where the mean of both lies but for the momentum by which torch weights the second more."""
    model, seen = norms(), batches(2)
    train(model, seen, forwards=2)
    mean = (seen[0].mean((0, 2, 3)) + seen[1].mean((0, 2, 3))) / 2
    torch.testing.assert_close(model[0].running_mean, mean * 18 / 19, rtol=1e-3, atol=0)


def test_what_is_remembered_long_enough_is_batch_norms_own_to_the_bit():
    model = norms(momentum=0.25)
    plain, seen = copy.deepcopy(model), batches(40)
    train(model, seen[:26])
    plain.load_state_dict(model.state_dict())
    train(model, seen[26:])
    for x in seen[26:]:
        plain(x)
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_run_cut_in_two_leaves_the_same_bits():
    whole, parts, seen = norms(), norms(), batches(7)
    parts.load_state_dict(whole.state_dict())
    train(whole, seen)
    train(parts, seen[:3])
    train(parts, seen[3:])
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), parts.buffers(), strict=True))


def test_statistics_of_a_file_without_counts_are_not_thrown_away():
    model = norms(momentum=0.1)
    with torch.no_grad():
        model[0].running_mean.fill_(2.0)
    plain, seen = copy.deepcopy(model), batches(1)
    train(model, seen)
    plain(seen[0])
    assert torch.equal(model[0].running_mean, plain[0].running_mean)
    assert int(model[0].num_batches_tracked) == 92  # beyond the ramp, and the batch of now
    assert not torch.equal(model[2].running_mean, plain[2].running_mean)  # this one did begin at 0 and 1


def test_a_norm_that_levels_share_is_moved_once_for_all_of_them():
    """Five maps a step at a momentum of 0.01: taken for one, they would be moved to 4.5 times where they lie."""
    norm, seen = nn.BatchNorm2d(3, momentum=0.01).train(), batches(5)
    running = RunningStatistics(norm)
    running.snapshot()
    for x in seen:
        norm(x)
    running.restore(GO)
    mean = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean * 45 / 46, rtol=1e-3, atol=0)
    assert (norm.running_var > 0).all()


def test_a_norm_that_saw_nothing_keeps_what_it_had():
    model = norms()
    running = RunningStatistics(model.train())
    running.snapshot()
    model[0](batches(1)[0])
    running.restore(GO)
    assert (model[2].running_mean == 0).all()
    assert (model[2].running_var == 1).all()
    assert (model[0].running_mean > 2).all()


def test_a_step_that_does_not_happen_leaves_nothing():
    model, seen = norms(), batches(3)
    seen[1] = seen[1] * torch.inf
    train(model, seen, skip=(1,))
    alone = norms()
    alone.load_state_dict({**model.state_dict(), **{n: b for n, b in norms().named_buffers()}})
    train(alone, [seen[0], seen[2]])
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), alone.buffers(), strict=True))


def test_frozen_norms_and_models_without_any_are_left_alone():
    model = norms()
    model.train()
    model[0].eval()
    running = RunningStatistics(model)
    running.snapshot()
    model(batches(1)[0])
    running.restore(GO)
    assert int(model[0].num_batches_tracked) == 0
    bare = RunningStatistics(nn.Conv2d(3, 3, 1))
    bare.snapshot()
    bare.restore(GO)
