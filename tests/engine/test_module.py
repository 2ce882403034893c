"""The loss of an optimiser step: exact over micro-batches and ranks, compiled as eager, without a synchronisation."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from training.small import annotations, batch, built, freeze_unused, recipe

from torso.data.collate import Batch
from torso.data.targets import Targets
from torso.engine.step import TrainStep, backward_window
from torso.training.criteria._base import loss_of
from torso.types import Images

NO_EXTRA = torch.zeros(0)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Eight images, the second without a box, the third with all of its boxes."""
    whole = annotations(tmp_path_factory.mktemp("set"))
    return whole.keep_boxes(whole.image_of_box != 1)


def in_double(part, found):
    """A step whose micro-batches can be cut at will: BatchNorm's statistics are frozen, everything is float64."""
    model = built(part.override("model.backbone.frozen_norm", True), found).double()
    with torch.no_grad():
        model.head.branches[0].cls_out.bias.fill_(-1.0)
    step = TrainStep(model, part.build().criterion.build())
    freeze_unused(step)
    return step


def wide(one: Batch) -> tuple[Images, Targets]:
    """The micro-batch in float64."""
    t = one.targets
    images = one.images._replace(pixels=one.images.pixels.double(), size_hw=one.images.size_hw.double())
    return images, t._replace(boxes=t.boxes.double())


def gradients(step: TrainStep, window: Sequence[tuple[Images, Targets]], **settings):
    step.zero_grad(set_to_none=True)
    loss = backward_window(step, step, window, extra=NO_EXTRA, **settings)
    return loss, {n: p.grad.clone() for n, p in step.named_parameters() if p.grad is not None}


def assert_same(ours, theirs, tolerance=1e-9):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        limit = tolerance * max(theirs[name].abs().max().item(), 1e-3)
        assert (value - theirs[name]).abs().max().item() <= limit, name


MODELS = ["fcos", "retinanet", "atss"]
CUTS = [[[0, 2, 3], [1], [4, 5]], [[1], [0, 2, 3, 4, 5]], [[0], [1], [2], [3], [4], [5]]]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cut", CUTS, ids=["unequal", "empty first", "singles"])
def test_accumulated_gradient_is_that_of_the_large_batch(found, name, cut):
    step = in_double(recipe(name), found)
    whole = [wide(batch(step.model, found, [row for rows in cut for row in rows]))]
    parts = [wide(batch(step.model, found, rows)) for rows in cut]
    loss, expected = gradients(step, whole)
    cut_loss, ours = gradients(step, parts)
    assert_same(ours, expected)
    assert cut_loss.loss.item() == pytest.approx(loss.loss.item(), rel=1e-9)
    counts = torch.stack([gradients(step, [p])[0].counts for p in parts])
    assert cut_loss.counts.tolist() == pytest.approx(counts.sum(0).tolist())


def test_the_mean_of_micro_batch_losses_would_be_another_gradient(found):
    """The test above can fail: dividing each micro-batch by its own count is visibly wrong on these images."""
    step = in_double(recipe(), found)
    parts = [wide(batch(step.model, found, rows)) for rows in CUTS[0]]
    _, exact = gradients(step, parts)
    singles = [gradients(step, [p])[1] for p in parts]
    name = "model.head.branches.0.cls_out.weight"
    mean = torch.stack([s[name] for s in singles]).mean(0)
    assert (mean - exact[name]).abs().max() > 0.05 * exact[name].abs().max()


def test_one_micro_batch_is_the_plain_loss(found):
    step = in_double(recipe(), found)
    one = wide(batch(step.model, found, [0, 1, 2]))
    loss, ours = gradients(step, [one])
    step.zero_grad(set_to_none=True)
    plain, _ = loss_of(step(*one))
    plain.backward()
    assert loss.loss.item() == pytest.approx(plain.item(), rel=1e-12)
    assert_same(ours, {n: p.grad for n, p in step.named_parameters() if p.grad is not None}, 1e-12)


def test_images_without_any_box_give_a_finite_loss(found):
    step = in_double(recipe(), found)
    empty = wide(batch(step.model, found, [1]))
    loss, grads = gradients(step, [empty, empty])
    assert loss.loss.isfinite()
    assert loss.counts.tolist() == [0.0] * len(loss.names)
    assert all(g.isfinite().all() for g in grads.values())


def test_running_statistics_move_once_a_micro_batch(found):
    model = built(recipe(), found)
    step = TrainStep(model, recipe().build().criterion.build())
    twin = copy.deepcopy(step)
    parts = [(b.images, b.targets) for b in (batch(model, found, [0, 2]), batch(model, found, [3, 4]))]
    gradients(step, parts)
    for part in parts:
        twin(*part)
    moved = [n for n, b in step.named_buffers() if "running" in n and not torch.equal(b, torch.zeros_like(b))]
    assert moved
    for (name, ours), theirs in zip(step.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, theirs), name


class Dropping(nn.Module):
    """A criterion whose count depends on what dropout left: the two passes must draw alike."""

    def forward(self, model, images, targets):
        from torso.training.criteria._base import TermSum

        kept = nn.functional.dropout(model(images).logits, 0.5)
        return {"x": TermSum(kept.square().sum(), (kept != 0).sum().double())}


def test_both_passes_draw_the_same_random_numbers(found):
    step = in_double(recipe(), found)
    step.criterion = Dropping()
    parts = [wide(batch(step.model, found, rows)) for rows in ([0, 1], [2, 3])]
    loss, first = gradients(step, parts, seed=(3, 0, 7))
    counted = []
    for m, part in enumerate(parts):
        from torso.engine.step import _seed

        _seed((3, 0, 7), m)
        counted.append(step(*part)["x"].count.item())
    assert loss.counts.tolist() == [sum(counted)]
    _, again = gradients(step, parts, seed=(3, 0, 7))
    _, other = gradients(step, parts, seed=(3, 0, 8))
    name = "model.head.branches.0.cls_out.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_parameters_beyond_the_levels_in_use_are_frozen_and_nothing_else_changes(found):
    step = TrainStep(built(recipe(), found), recipe().build().criterion.build())
    before = copy.deepcopy(step.state_dict())
    drawn = torch.get_rng_state()
    names = freeze_unused(step)
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in step.state_dict().items())
    assert names
    assert all(name.startswith("model.backbone.body.layer4") for name in names)
    one = batch(step.model, found, [0, 1])
    _, grads = gradients(step, [(one.images, one.targets)])
    assert grads.keys() == {n for n, p in step.named_parameters() if p.requires_grad}


@pytest.mark.slow
def test_compiled_step_equals_eager(found):
    step = in_double(recipe(), found)
    one = wide(batch(step.model, found, [0, 1, 2]))
    _, eager = gradients(step, [one])
    compiled = torch.compile(step.forward, backend="aot_eager", fullgraph=True, dynamic=False)
    step.zero_grad(set_to_none=True)
    backward_window(step, compiled, [one], extra=NO_EXTRA)
    assert_same({n: p.grad for n, p in step.named_parameters() if p.grad is not None}, eager, 1e-6)


RANKS = {0: [[0], [2, 3]], 1: [[1], [4, 5]]}


def _rank(rank: int, store: str, step: TrainStep, found, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    wrapped = nn.parallel.DistributedDataParallel(nn.ModuleList([step]), broadcast_buffers=False)

    def summed(vector):
        vector = vector.clone()
        dist.all_reduce(vector)
        return vector

    out = {}
    own = RANKS[rank]
    for name, cut in {"one": [[*own[0], *own[1]]], "several": own, "empty": own[:1]}.items():
        step.zero_grad(set_to_none=True)
        window = [wide(batch(step.model, found, rows)) for rows in cut]

        def backward(loss):
            if wrapped.require_backward_grad_sync:
                wrapped.reducer.prepare_for_backward([])
            loss.backward()

        loss = backward_window(
            step,
            step,
            window,
            extra=torch.tensor([float(rank)], dtype=torch.float64),
            world=2,
            reduce=summed,
            backward=backward,
            local=wrapped.no_sync,
        )
        out[name] = ({n: p.grad.clone() for n, p in step.named_parameters() if p.grad is not None}, loss._asdict())
    torch.save(out, f"{results}.{rank}")
    dist.destroy_process_group()


def test_two_ranks_descend_the_gradient_of_all_their_images(found, tmp_path):
    step = in_double(recipe(), found)
    context = mp.get_context("fork")
    store, out = str(tmp_path / "store"), str(tmp_path / "out")
    children = [context.Process(target=_rank, args=(r, store, copy.deepcopy(step), found, out)) for r in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    answers = [torch.load(tmp_path / f"out.{r}", weights_only=True) for r in (0, 1)]
    for name, rows in {"one": [0, 2, 3, 1, 4, 5], "several": [0, 2, 3, 1, 4, 5], "empty": [0, 1]}.items():
        loss, expected = gradients(step, [wide(batch(step.model, found, rows))])
        for answer in answers:
            grads, said = answer[name]
            assert_same(grads, expected)
            assert said["loss"].item() == pytest.approx(loss.loss.item(), rel=1e-9)
            assert said["extra"].tolist() == [1.0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_never_waits_for_the_device(found, tmp_path, accumulate):
    from training.small import run

    from torso.engine.module import TrainModule

    original = TrainModule.training_step
    watched_steps = []

    def watched(self, window, batch_idx):
        mode = "error" if self.trainer.global_step >= 2 else "default"  # the first steps compile and allocate
        watched_steps.append(mode)
        torch.cuda.set_sync_debug_mode(mode)
        try:
            return original(self, window, batch_idx)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainModule, "training_step", watched)
        part = recipe(ema=0.9, clip_norm=1.0, accumulate=accumulate, compile="no", epochs=4)
        run(part, (found, None), tmp_path / "run", accelerator="gpu", devices=1)
    assert "error" in watched_steps  # torch raised in none of the steps in which a wait is an error
