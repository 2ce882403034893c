"""The validation callback: scores of the published weights on val after an epoch, and the best of them kept."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback

from torso.engine.checkpoint_file import link_atomic
from torso.engine.logger import MetricsLogger
from torso.engine.module import TrainModule
from torso.engine.progress import Display
from torso.engine.run_folder import RunFolder, write_json
from torso.engine.task import EvalSettings, Evaluation, Scores
from torso.weights import save


class Validation(Callback):
    """Scores on val after every `every` epochs and after the last one; "best" is by the task's headline number, the
    later of equals.

    Comes after CheckpointCallback: best.ckpt is another name of the checkpoint which that has just written.
    folder: None on all but the main process. val: None publishes the weights of the last epoch.
    """

    def __init__(
        self,
        val: Any | None,
        folder: RunFolder | None,
        logger: MetricsLogger,
        shown: Display,
        *,
        headline: str,
        every: int = 1,
        batch_size: int = 8,
        workers: int = 0,
        history: list[dict[str, Any]] | None = None,
    ) -> None:
        self.val, self.folder, self.logger, self.shown = val, folder, logger, shown
        self.headline, self.every, self.batch_size, self.workers = headline, every, batch_size, workers
        self.history = list(history or [])
        self.scores: Scores | None = None
        self.seconds = 0.0

    @property
    def best(self) -> dict[str, Any] | None:
        """The history's best entry."""
        return max(self.history, key=lambda row: (row["scores"][self.headline], row["epoch"]), default=None)

    def is_due(self, trainer: pl.Trainer, module: TrainModule) -> bool:
        """Whether the epoch that ends now is evaluated, or without a val set published: every so many, and the last."""
        return self._is_due(trainer, module, trainer.current_epoch)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """An epoch that was trained and saved, but not evaluated before the run was killed, is evaluated now."""
        assert isinstance(module, TrainModule)
        done = module.position.epoch - 1
        if module.position.window == 0 and done >= 0 and all(row["epoch"] != done for row in self.history):
            self._validate(trainer, module, done)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainModule)
        self._validate(trainer, module, trainer.current_epoch)

    def finish(self, trainer: pl.Trainer, module: TrainModule) -> None:
        """After the fit: a run that was killed while its last epoch was evaluated resumes without a step to do."""
        done = module.position.epoch - 1
        if self.val is not None and done >= 0 and all(row["epoch"] != done for row in self.history):
            self._validate(trainer, module, done)

    def _is_due(self, trainer: pl.Trainer, module: TrainModule, epoch: int) -> bool:
        return trainer.global_step >= module.total_steps or (epoch + 1) % self.every == 0

    def _validate(self, trainer: pl.Trainer, module: TrainModule, epoch: int) -> None:
        if not self._is_due(trainer, module, epoch):
            return
        with module.ema.swapped(module.model) if module.ema is not None else nullcontext():
            if self.val is None:
                self._publish(module)
                return
            start = time.monotonic()
            found = self._evaluate(module)
            self.scores = found.scores
            self.seconds += time.monotonic() - start
            self._keep(trainer, module, epoch, found)

    def _evaluate(self, module: TrainModule) -> Evaluation:
        module.zero_grad(set_to_none=True)
        assert self.val is not None
        self.shown.begin("  evaluate", -(-len(self.val) // (self.batch_size * module.trainer.world_size)))
        settings = EvalSettings(
            batch_size=self.batch_size,
            workers=self.workers,
            precision=module.recipe.precision,
            device=module.trainer.strategy.root_device,
            tick=lambda done, total: self.shown.advance(),
        )
        found = module.task.evaluate(module.model, self.val, settings)
        self.shown.end()
        return found

    def _keep(self, trainer: pl.Trainer, module: TrainModule, epoch: int, found: Evaluation) -> None:
        self.history.append({"epoch": epoch, "step": trainer.global_step, "scores": found.scores.to_dict()})
        best = self.best
        is_best = best is not None and best["epoch"] == epoch
        if self.folder is not None:
            if is_best:
                self._publish(module)
                write_json(self.folder.predictions, found.predictions())
            write_json(self.folder.history, self.history)
        numbers = {f"val/{name}": value for name, value in found.scores.numbers.items()}
        self.logger.write({"step": trainer.global_step, "epoch": epoch, **numbers})
        self.shown.say(f"epoch {epoch + 1}: val {found.scores.brief()}{'  (best)' if is_best else ''}")

    def _publish(self, module: TrainModule) -> None:
        """The last checkpoint as the best, and the model's present weights as the published ones."""
        if self.folder is None:
            return
        link_atomic(self.folder.last, self.folder.best)
        ids = module.task.category_ids(module.train_set)
        save(self.folder.weights, module.model, module.part, category_ids=ids)
