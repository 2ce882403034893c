"""The metrics logger: metrics.csv, TensorBoard where it is installed, the display, and how long things took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback

from torso.engine.metrics import MetricsFile
from torso.engine.module import TrainModule
from torso.engine.progress import Display
from torso.engine.run_folder import RunFolder


class MetricsLogger(Callback):
    """A row every `every` optimiser steps: means of the loss and its terms, gradient norm, learning rate, speed.

    Only the main process has a folder and writes. resumed_at: the step that a resumed run goes on from.
    """

    def __init__(
        self, folder: RunFolder | None, shown: Display, *, every: int = 20, resumed_at: int | None = None
    ) -> None:
        self.shown, self.every = shown, every
        self.images, self.train_seconds = 0, 0.0
        self._file = MetricsFile(folder.metrics, keep_until_step=resumed_at) if folder else None
        self._board = _tensorboard(folder, resumed_at) if folder else None
        self._row_images, self._row_start = 0, time.monotonic()
        self._epoch_start: float | None = None
        self._first_loss: float | None = None

    def write(self, row: Mapping[str, float | int]) -> None:
        """One row; it needs "step" and "epoch"."""
        if self._file is not None:
            self._file.append(row)
        if self._board is not None:
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    self._board.add_scalar(name, value, row["step"])

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainModule)
        self._begin(trainer, module)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainModule)
        if module.position.window:  # Lightning begins no epoch that was begun before the resume
            self._begin(trainer, module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, TrainModule)
        self._row_images += module.effective_batch
        numbers = self._row(trainer, module) if trainer.global_step % self.every == 0 else {}
        self.shown.advance({name.rpartition("/")[2]: numbers[name] for name in _SHOWN if name in numbers})

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainModule)
        module.take_reports(all=True)
        self._row(trainer, module)
        self._stop_clock()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._stop_clock()

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        self.shown.end()
        if self._board is not None:
            self._board.close()

    def _begin(self, trainer: pl.Trainer, module: TrainModule) -> None:
        epochs = -(-module.total_steps // module.windows)
        left = min(module.windows, module.total_steps - trainer.current_epoch * module.windows)
        self.shown.begin(f"epoch {trainer.current_epoch + 1}/{epochs}", left, trainer.global_step % module.windows)
        self._epoch_start = self._row_start = time.monotonic()
        self._row_images = 0

    def _stop_clock(self) -> None:
        if self._epoch_start is not None:
            self.train_seconds += time.monotonic() - self._epoch_start
            self.images, self._row_images = self.images + self._row_images, 0
            self._epoch_start = None
        self.shown.end()

    def _row(self, trainer: pl.Trainer, module: TrainModule) -> dict[str, float]:
        means = module.means.take()
        if not means:
            return {}
        seconds = max(time.monotonic() - self._row_start, 1e-9)
        speed = self._row_images / seconds
        self.images += self._row_images
        self._row_images, self._row_start = 0, time.monotonic()
        named = {_COLUMNS.get(name, f"train/{name}_loss"): value for name, value in means.items()}
        lr = max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)
        numbers = {**named, "lr": lr, "images_per_second": speed}
        self.write({"step": trainer.global_step, "epoch": trainer.current_epoch, **numbers})
        self._warn(numbers["train/loss"])
        return numbers

    def _warn(self, loss: float) -> None:
        """Say once that the loss has grown far beyond its beginning: it is finite, and still nothing is learned."""
        if self._first_loss is None:
            self._first_loss = loss
        elif loss > _DIVERGED * self._first_loss > 0:
            self.shown.say(
                f"the loss is {loss:.3g} after it began with {self._first_loss:.3g}: this run diverges; stop it and "
                "lower lr or clip_norm, or lengthen warmup_steps"
            )
            self._first_loss = float("inf")


_COLUMNS = {"loss": "train/loss", "norm": "train/gradient_norm"}
_SHOWN = ("train/loss", "lr", "images_per_second")
_DIVERGED = 5.0


def _tensorboard(folder: RunFolder, resumed_at: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder.path), purge_step=None if resumed_at is None else resumed_at + 1)
