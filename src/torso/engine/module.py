"""The one LightningModule: what a recipe means to Lightning's Trainer; the model inside stays a plain module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from torso.data.sampler import EpochSampler
from torso.engine.checkpoint_file import KEY
from torso.engine.counting import Counting
from torso.engine.ema import EMA
from torso.engine.metrics import Means, Report, Reports
from torso.engine.nonfinite import check_finite
from torso.engine.optim import LossScale, Schedule, make_optimizer, prepare_step, scaled_lr, set_lr
from torso.engine.running_stats import RunningStatistics
from torso.engine.step import Forward, MicroBatch, TrainStep, WindowLoss, backward_window
from torso.engine.task import Batch, Feed, Task, moved
from torso.engine.unused_parameters import freeze_unused
from torso.errors import Refusal
from torso.layers.compiling import compiled
from torso.parts import Part
from torso.training.recipes.recipe import Recipe


class Window(NamedTuple):
    """One optimiser step's data: micro-batches on the device, and (on the host) the samples' rows in the data set."""

    micro: list[MicroBatch]
    rows: tuple[int, ...]


class Position(NamedTuple):
    """Where in the data a run is: the next window to be trained on. window is below the epoch's length."""

    epoch: int
    window: int


class TrainModule(pl.LightningModule):
    """Manual optimisation: a batch of the loader is the window of one optimiser step, so that both are counted alike.

    Args:
        task: whose methods know what is in `train`, the training set.
        recipe: the whole of it goes into every checkpoint.
        model: a torso.models._base.Model, built, with its class names.
        workers: of the loader.
        origin: where the data came from, kept in the checkpoint so that a resume finds it.
    """

    def __init__(
        self,
        task: Task,
        recipe: Part[Recipe],
        model: Any,
        train: Any,
        *,
        workers: int = 0,
        origin: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.task, self.part, self.recipe, self.train_set = task, recipe, recipe.build(), train
        self.workers, self.origin = workers, origin
        self.samples = task.samples(train, model)
        self.step = TrainStep(model, self.recipe.criterion.build())
        freeze_unused(self.step, task.blank(model))
        self.ema = EMA(model, self.recipe.ema) if self.recipe.ema else None
        self.position = Position(0, 0)
        self.means = Means()
        self.on_report: list[Callable[[Report], None]] = []
        self.requests: Callable[[], tuple[float, ...]] = lambda: ()
        self._forward: Forward = self.step.forward  # a method: a module would be registered a second time
        self._compiled = False
        self._counting: Counting | None = None
        self._scale: LossScale | None = None
        self._running: RunningStatistics | None = None

    @property
    def model(self) -> Any:
        """The model being trained (its own weights, not the average)."""
        return self.step.model

    @property
    def windows(self) -> int:
        """Optimiser steps of an epoch."""
        return len(self._sampler())

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the run."""
        return self.recipe.steps or self.recipe.epochs * self.windows

    @property
    def epochs(self) -> int:
        """Passes over the training set, the last perhaps not whole."""
        return -(-self.total_steps // self.windows)

    @property
    def effective_batch(self) -> int:
        """Images an optimiser step, all ranks together."""
        return self.recipe.batch_size * self.recipe.accumulate * self.trainer.world_size

    def setup(self, stage: str) -> None:
        """On every rank, once the device is known: precision, memory layout, compilation."""
        device = self.trainer.strategy.root_device
        recipe = self.recipe
        cuda = device.type == "cuda"
        precision = ("bf16" if cuda else "32") if recipe.precision == "auto" else recipe.precision
        self.step.dtype = {"bf16": torch.bfloat16, "16": torch.float16, "32": None}[precision]
        self._scale = LossScale().to(device) if precision == "16" else None
        if cuda:
            self.step.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        graphs = recipe.compile == "graphs"
        if graphs and (not cuda or self.trainer.world_size > 1):
            raise ValueError(
                f'compile "graphs" wants one CUDA device; {self.trainer.world_size} of type {device.type} came; take '
                'compile "yes"'
            )
        if recipe.compile in ("yes", "graphs") and not self.step.criterion.can_compile:
            raise ValueError(
                f'{type(self.step.criterion).__name__} cannot be compiled; compile "{recipe.compile}" was asked for: '
                'take compile "auto" or "no"'
            )
        self._compiled = (
            graphs or recipe.compile == "yes" or (recipe.compile == "auto" and cuda and self.step.criterion.can_compile)
        )
        if self._compiled:
            self._forward = compiled(self.step.forward, graphs=graphs)
        if not self.step.criterion.counts_need_predictions:
            self._counting = Counting(self.step, compile=self._compiled)
        steps, warmup = self.total_steps, recipe.warmup_steps
        self.trainer.fit_loop.max_epochs = self.epochs
        self.schedule = Schedule(steps, warmup, recipe.schedule, recipe.milestones)
        self.reports = Reports(together=self.trainer.world_size > 1)

    def configure_optimizers(self) -> Optimizer:
        """Fused, by name, its rate scaled with the effective batch."""
        r = self.recipe
        return make_optimizer(
            r.optimizer,
            self.model,
            lr=scaled_lr(r.lr, self.effective_batch, r.lr_batch),
            momentum=r.momentum,
            weight_decay=r.weight_decay,
            backbone_lr=r.backbone_lr,
            extra=self.step.criterion.parameters(),
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Called by the Trainer on every rank, after a checkpoint was read and before any iterator is made."""
        sampler = self._sampler()
        sampler.start_from(*self.position)
        feed = Feed(
            self.recipe,
            fixed_shapes=self._compiled,
            unmixed_from=self.epochs - round(self.recipe.close_mosaic * self.epochs),
            workers=self.workers,
        )
        return self.task.loader(self.train_set, self.model, sampler, feed)

    def transfer_batch_to_device(self, batch: list[Batch], device: torch.device, dataloader_idx: int) -> Window:
        """Rows stay on the host: to name the images of a bad step must not cost a synchronisation."""
        rows = tuple(int(row) for micro in batch for row in micro.index.tolist())
        return Window([(moved(m.images, device), moved(m.targets, device)) for m in batch], rows)

    def on_train_start(self) -> None:
        """The model is on its device and in train mode only now."""
        if self.ema is not None:
            self.ema.to_like(self.model)
        self._running = RunningStatistics(self.model)

    def training_step(self, window: Window, batch_idx: int) -> None:
        """One optimiser step, without a synchronisation."""
        step, optimizer = self.trainer.global_step, self.trainer.optimizers[0]
        set_lr(optimizer, self.schedule(min(step, self.schedule.steps - 1)))
        optimizer.zero_grad(set_to_none=True)
        assert self._running is not None
        self._running.snapshot()
        loss = self._backward(window, step)
        scale = self._scale.scale if self._scale is not None else None
        norm_and_skipped = prepare_step(optimizer, loss.loss, clip_norm=self.recipe.clip_norm, scale=scale)
        self.optimizers().step()  # type: ignore[union-attr]  # Lightning's wrapper counts the step
        self._running.restore(norm_and_skipped[1])
        if self._scale is not None:
            self._scale.update(norm_and_skipped[1])
        if self.ema is not None:
            self.ema.update(self.model, step, norm_and_skipped[1])
        self.position = self._after(batch_idx)
        vectors = (loss.counts, loss.totals, loss.own, norm_and_skipped, loss.extra)
        self.reports.push(step, loss.names, window.rows, vectors)
        self.take_reports()

    def take_reports(self, *, all: bool = False) -> None:
        """Look at what has arrived on the host; NonFinite for a step that was skipped. all: wait for the last."""
        for report in self.reports.ready(all=all):
            check_finite(report, self._describe, overflow_is_normal=self._scale is not None)
            self.means.add(report)
            for listener in self.on_report:
                listener(report)

    def _backward(self, window: Window, step: int) -> WindowLoss:
        strategy = self.trainer.strategy
        world = self.trainer.world_size
        scale = self._scale
        extra = torch.tensor(self.requests() if world > 1 else (), dtype=torch.float32)
        if self.device.type == "cuda":
            extra = extra.pin_memory().to(self.device, non_blocking=True)
        return backward_window(
            self.step,
            self._forward,
            window.micro,
            extra=extra,
            counts_of=self._counting,
            seed=(self.recipe.seed, self.trainer.global_rank, step),
            world=world,
            reduce=lambda vector: strategy.reduce(vector.clone(), reduce_op="sum") if world > 1 else vector,
            backward=lambda loss: self.manual_backward(loss if scale is None else loss * scale.scale),
            local=strategy.block_backward_sync if isinstance(strategy, ParallelStrategy) else nullcontext,
        )

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """model.* and criterion.*, without the name of the wrapper (torso.weights reads model.*)."""
        return dict(self.step.state_dict(*args, **kwargs))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """The inverse of state_dict."""
        return self.step.load_state_dict(state_dict, strict=strict, assign=assign)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Plain data only."""
        category_ids = self.task.category_ids(self.train_set)
        checkpoint[KEY] = {
            "recipe": self.part.to_dict(),
            "names": list(self.model.names),
            "category_ids": None if category_ids is None else list(category_ids),
            "ema": None if self.ema is None else dict(self.ema.average),
            "origin": self.origin,
            **self._counts(),
            "position": list(self.position),
            "loss_scale": None if self._scale is None else dict(self._scale.state_dict()),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """ValueError where the run that made the checkpoint had other data or ranks: it could not go on the same."""
        kept = checkpoint[KEY]
        for words, ours in self._counts().items():
            if kept[words] != ours:
                raise Refusal(
                    f"the checkpoint was made with {kept[words]} {words}, here are {ours}",
                    remedies=["resume with the same data and devices", "start a new run from its weights (init)"],
                )
        self.position = Position(*kept["position"])
        if self.ema is not None:
            self.ema.load_state_dict(kept["ema"])
        if self._scale is not None:
            self._scale.load_state_dict(kept["loss_scale"])

    def _counts(self) -> dict[str, int]:
        """What a resumed run must have as many of."""
        return {**self.task.counts(self.train_set), "processes": self.trainer.world_size}

    def _describe(self, rows: Sequence[int]) -> list[str]:
        return self.task.describe(self.train_set, rows)

    def _sampler(self) -> EpochSampler:
        r = self.recipe
        return EpochSampler(
            size=self.samples,
            scales=r.scales,
            batch_size=r.batch_size,
            accumulate=r.accumulate,
            seed=r.seed,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )

    def _after(self, window: int) -> Position:
        epoch, done = self.trainer.current_epoch, self.trainer.global_step >= self.total_steps
        return Position(epoch + 1, 0) if done or window + 1 == self.windows else Position(epoch, window + 1)
