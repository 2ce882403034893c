"""Judges the published weights on val after an epoch, and keeps the best of them."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import Callback

from torso.data.annotations import Annotations
from torso.engine.checkpoint_file import link_atomic
from torso.engine.logger import Recorder
from torso.engine.module import DetectionTask
from torso.engine.progress import Display
from torso.engine.run_folder import RunFolder, write_json
from torso.evaluation.detection import STATS, DetectionEvaluator, DetectionScores
from torso.evaluation.run import Settings, collect
from torso.inference.runtime import Precision
from torso.weights import save


class Judge(Callback):
    """COCO scores on val after every `every` epochs and after the last one; "best" is by AP, the later of equals.

    Comes after Keeper among the callbacks: best.ckpt is another name of the checkpoint that Keeper has just written.
    folder: None on all but the main process. val: None publishes the weights of the last epoch.
    """

    def __init__(
        self,
        val: Annotations | None,
        folder: RunFolder | None,
        recorder: Recorder,
        shown: Display,
        *,
        every: int = 1,
        batch_size: int = 8,
        workers: int = 0,
        history: list[dict[str, Any]] | None = None,
    ) -> None:
        self.val, self.folder, self.recorder, self.shown = val, folder, recorder, shown
        self.every, self.batch_size, self.workers = every, batch_size, workers
        self.history = list(history or [])
        self.scores: DetectionScores | None = None
        self.seconds = 0.0

    @property
    def best(self) -> dict[str, Any] | None:
        """The history's best entry."""
        return max(self.history, key=lambda row: (row["scores"]["AP"], row["epoch"]), default=None)

    def due(self, trainer: pl.Trainer, task: DetectionTask) -> bool:
        """Whether the epoch that ends now is judged, or without a val set published: every so many, and the last."""
        return self._is_due(trainer, task, trainer.current_epoch)

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """An epoch that was trained and saved, but not judged before the run was killed, is judged now."""
        assert isinstance(task, DetectionTask)
        done = task.position.epoch - 1
        if task.position.window == 0 and done >= 0 and all(row["epoch"] != done for row in self.history):
            self._judge(trainer, task, done)

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        assert isinstance(task, DetectionTask)
        self._judge(trainer, task, trainer.current_epoch)

    def finish(self, trainer: pl.Trainer, task: DetectionTask) -> None:
        """After the fit: a run that was killed while its last epoch was judged resumes without a step to do."""
        done = task.position.epoch - 1
        if self.val is not None and done >= 0 and all(row["epoch"] != done for row in self.history):
            self._judge(trainer, task, done)

    def _is_due(self, trainer: pl.Trainer, task: DetectionTask, epoch: int) -> bool:
        return trainer.global_step >= task.total_steps or (epoch + 1) % self.every == 0

    def _judge(self, trainer: pl.Trainer, task: DetectionTask, epoch: int) -> None:
        if not self._is_due(trainer, task, epoch):
            return
        if self.val is None:
            self._publish(task)
        else:
            start = time.monotonic()
            with task.ema.swapped(task.model) if task.ema is not None else nullcontext():
                found = self._collect(task, self.val)
                self.scores = found.compute()
                self.seconds += time.monotonic() - start
                self._keep(trainer, task, epoch, found, self.scores)

    def _collect(self, task: DetectionTask, val: Annotations) -> DetectionEvaluator:
        task.zero_grad(set_to_none=True)
        precision: Precision = task.recipe.precision
        self.shown.begin("  judge", -(-len(val) // (self.batch_size * task.trainer.world_size)))
        settings = Settings(
            batch_size=self.batch_size,
            workers=self.workers,
            precision=precision,
            device=task.trainer.strategy.root_device,
            tick=lambda done, total: self.shown.advance(),
        )
        found = collect(task.model, val, settings)
        self.shown.end()
        return found

    def _keep(
        self, trainer: pl.Trainer, task: DetectionTask, epoch: int, found: DetectionEvaluator, scores: DetectionScores
    ) -> None:
        self.history.append({"epoch": epoch, "step": trainer.global_step, "scores": scores.to_dict()})
        best = self.best
        is_best = best is not None and best["epoch"] == epoch
        if self.folder is not None:
            if is_best:
                link_atomic(self.folder.last, self.folder.best)
                save(self.folder.weights, task.model, task.part, category_ids=task.train_set.category_ids)
                write_json(self.folder.predictions, found.results().to_coco(found.truth))
            write_json(self.folder.history, self.history)
        numbers = {f"val/{name}": value for name, value in zip(STATS, scores.stats, strict=True)}
        self.recorder.write({"step": trainer.global_step, "epoch": epoch, **numbers})
        mark = "  (best)" if is_best else ""
        self.shown.say(f"epoch {epoch + 1}: val AP {100 * scores.AP:.1f}  AP50 {100 * scores.AP50:.1f}{mark}")

    def _publish(self, task: DetectionTask) -> None:
        if self.folder is None:
            return
        with task.ema.swapped(task.model) if task.ema is not None else nullcontext():
            link_atomic(self.folder.last, self.folder.best)
            save(self.folder.weights, task.model, task.part, category_ids=task.train_set.category_ids)
