"""The checkpoint callback: checkpoints at optimiser steps only, and an orderly end on SIGTERM and Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback

from torso.engine.metrics import Report
from torso.engine.module import TrainModule

_SECONDS = 180.0  # between two checkpoints, where no number of steps was asked for


class Interrupted(Exception):
    """The run was asked to end and left a checkpoint at `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"interrupted; what was learned is in {path}")
        self.path = path


class CheckpointCallback(Callback):
    """Saves `path` every `every` optimiser steps or every three minutes, at the run's end and after evaluated epochs.

    is_due: whether the epoch that ends now is evaluated; the best epoch's checkpoint is the one saved here. Other
    epochs are not saved for their own sake: a small data set's take less time than a checkpoint does.
    A signal is honoured after the step in which it comes; a second one ends the process as if there were no handler.
    Several ranks save and stop after the same step: what each wants travels with the loss counts.
    """

    def __init__(
        self, path: Path, *, every: int | None = None, is_due: Callable[[pl.Trainer, TrainModule], bool]
    ) -> None:
        self.path, self.every, self.is_due = path, every, is_due
        self.stopping = False
        self._agreed_stop = self._agreed_save = False
        self._saved_at = time.monotonic()

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Ask for the other ranks' wishes; and take away a read of the device at every step of several ranks."""
        assert isinstance(module, TrainModule)
        module.requests = lambda: (float(self.stopping), float(self._is_time()))
        module.on_report.append(self.on_agreement)
        # Lightning agrees on SIGTERM by a broadcast and .item() a batch; here that rides in a message sent anyway.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, TrainModule)
        if trainer.global_step >= module.total_steps:
            trainer.should_stop = True  # the epoch's end follows and saves
            return
        if module.position.window == 0:
            return  # the last window: the epoch's end follows and asks the same
        self._save_or_stop(trainer, due=False)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainModule)
        module.take_reports(all=True)
        self._save_or_stop(trainer, due=self.is_due(trainer, module))

    def _save_or_stop(self, trainer: pl.Trainer, *, due: bool) -> None:
        alone = trainer.world_size == 1
        stop = self.stopping if alone else self._agreed_stop
        if self.every:
            due |= trainer.global_step % self.every == 0
        else:
            due |= self._is_time() if alone else self._agreed_save
        if stop or due:
            self._save(trainer)
        if stop:
            raise Interrupted(self.path)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT are noted inside the block. Lightning's own handlers call those that were there first."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Lightning's handler would raise at a place of its own: between two saves, and again after the last."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    def on_agreement(self, report: Report) -> None:
        if report.extra:
            self._agreed_stop |= report.extra[0] > 0
            self._agreed_save |= report.extra[1] > 0

    def _is_time(self) -> bool:
        return self.every is None and time.monotonic() - self._saved_at > _SECONDS

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_at, self._agreed_save = time.monotonic(), False
