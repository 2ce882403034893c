"""Training from a recipe and a data set to a folder of results, on pytorch-lightning's Trainer.

result = train(compose_recipe("fcos", backbone="resnet18"), "path/to/data")
result.scores, result.weights, result.resume_from
train(resume=result.resume_from)
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from torso.bounds import Count, Whole
from torso.engine.checkpoint_file import KEY, AtomicIO, load_checkpoint
from torso.engine.checkpointing import CheckpointCallback, Interrupted
from torso.engine.logger import MetricsLogger
from torso.engine.module import TrainModule
from torso.engine.progress import Display, Silent, display
from torso.engine.run_folder import RunFolder, RunOptions, RunResult, write_json
from torso.engine.sync_norm import synchronise
from torso.engine.task import Splits, Task, task_of
from torso.engine.validation import Validation
from torso.errors import Refusal, expect
from torso.foreign import Allow, honours_allow
from torso.parts import Part, PartError
from torso.plain_values import checked
from torso.training.recipes.recipe import Recipe, with_classes
from torso.weights import transfer
from torso.yaml_text import to_yaml

_GRAPHS = 64  # target sizes x image shapes x with and without gradients, before torch gives compiling up


@honours_allow
@checked
def train(
    recipe: Part[Recipe] | None = None,
    data: Any = None,
    *,
    run_dir: Path | str | None = None,
    resume: Path | str | None = None,
    init: Path | str | None = None,
    devices: int | str = "auto",
    accelerator: str = "auto",
    workers: Whole | None = None,
    holdout: float = 0.2,
    limit: Count | None = None,
    progress: bool = True,
    eval_every: int = 1,
    eval_batch_size: int = 8,
    log_every: int = 20,
    checkpoint_every: int | None = None,
    allow: Allow = (),
) -> RunResult:
    """Train and evaluate; returns what RunFolder lists.

    Args:
        recipe: its model gets as many classes as the data has. None only with resume.
        data: what the model's task opens: a folder (of a detector COCO, VOC or YOLO, checked like `torso doctor`), or
            (train, val) sets that are clean. None with resume: the folder that the run was started on.
        run_dir: of the results; the first free of NAME, NAME-2, ... Default runs/ and the head's or model's name.
        resume: a checkpoint of a run: goes on in its folder from where it stands, to the same bits on the CPU.
            recipe, where given too, must be the run's own.
        init: weights or a checkpoint to start from; what fits by name and shape is copied, what was is printed.
        devices, accelerator: Lightning's ("auto", 2; "cpu", "gpu"). workers: of the loader; None: one a core, 8 at
            most. holdout: share of train that becomes val where a folder has none.
        limit: so many images of train and of val, for a quick look.
        eval_every: epochs between evaluations on val; the last epoch is always evaluated.
        log_every: steps. checkpoint_every: steps; None: three minutes. An epoch's end is always kept.
        allow: modules outside torso whose parts the checkpoint of `resume` may name.

    A signal (SIGTERM, Ctrl-C) ends it after the step at hand, with a checkpoint: the result says `interrupted`.
    Raises ValueError, in one sentence, for data that may not be trained on, a checkpoint that does not fit, and
    (NonFinite) a loss that is not finite.
    """
    start = time.monotonic()
    options = RunOptions(
        eval_every=eval_every, eval_batch_size=eval_batch_size, log_every=log_every, checkpoint_every=checkpoint_every
    )
    main = getattr(rank_zero_only, "rank", 0) == 0
    shown = display(progress) if main else Silent()
    record = None if resume is None else _record(Path(resume))
    recipe = _recipe(recipe, record)
    task = task_of(recipe.get("model"))
    splits = _splits(task, recipe, data, record, holdout, limit)
    names = task.class_names(splits.train)
    recipe = with_classes(recipe, len(names))
    model = build_model(recipe, names, load=resume is None)
    if init is not None and resume is None:
        shown.say(str(transfer(model, init)))
    workers = min(os.cpu_count() or 1, 8) if workers is None else workers
    module = TrainModule(task, recipe, model, splits.train, workers=workers, origin=splits.origin)
    trainer = _trainer(module.recipe, devices, accelerator)
    if module.recipe.sync_bn:
        shown.say(synchronise(model, trainer.world_size))
    folder = _folder(recipe, run_dir, resume, main)  # only now: a run that is refused leaves nothing behind
    notes = task.notes(model, module.step.criterion, splits.train) if resume is None else []
    _announce(shown, splits, folder, notes)
    done = None if record is None else record["global_step"]
    callbacks = _callbacks(task, splits.val, folder, shown, options, workers, done, main)
    interrupted = _fit(trainer, module, callbacks, shown, resume)
    return _result(folder, module, callbacks, time.monotonic() - start, interrupted, main)


def build_model(recipe: Part[Recipe], names: tuple[str, ...], *, load: bool = True) -> Any:
    """The recipe's model on the CPU, seeded, with class names and (load) the pretrained weights that it asks for.

    ValueError where they cannot be had, or where the criterion cannot train this model.
    """
    built = recipe.build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(built.seed)
        model = built.model.build()
    model.names = names
    built.criterion.build().check(model)
    if built.pretrained is not None and load:
        model.load_pretrained(built.pretrained)
    return model


def _record(resume: Path) -> dict[str, Any]:
    """What the checkpoint says beside its tensors."""
    checkpoint = load_checkpoint(resume)
    return {**checkpoint[KEY], "global_step": checkpoint["global_step"], "path": resume}


def _recipe(recipe: Part[Recipe] | None, record: dict[str, Any] | None) -> Part[Recipe]:
    if record is None:
        if recipe is None:
            raise ValueError("no recipe: expected one, as torso.recipe gives it, or a run to resume")
        expect("recipe", recipe, Part, "a recipe, as torso.recipe gives it")
        return recipe
    try:
        kept: Part[Recipe] = Part.from_dict(record["recipe"])
    except PartError as error:
        raise error.found_in(record["path"]) from None
    if recipe is not None and with_classes(recipe, len(record["names"])) != kept:
        raise ValueError(
            f"{record['path']} was trained by another recipe than the one given; resume without a recipe, or start a "
            "new run with init"
        )
    return kept


def _splits(
    task: Task, recipe: Part[Recipe], data: Any, record: dict[str, Any] | None, holdout: float, limit: int | None
) -> Splits:
    if data is None and record is not None and record["origin"] is not None:
        data, holdout, limit = (record["origin"][key] for key in ("folder", "holdout", "limit"))
    if data is None:
        raise ValueError("no data: expected the folder of a data set, or (train, val) annotations")
    splits = task.open(data, recipe, holdout=holdout, limit=limit)
    names = task.class_names(splits.train)
    if record is not None and list(names) != record["names"]:
        raise ValueError(
            f"{record['path']} knows the classes {', '.join(record['names'])}, the data has "
            f"{', '.join(names)}; resume with the data of its start, or start a new run with init"
        )
    return splits


def _folder(recipe: Part[Recipe], run_dir: Path | str | None, resume: Path | str | None, main: bool) -> RunFolder:
    if resume is not None:
        return RunFolder.of(Path(resume))
    model = recipe.get("model")
    named: Part[Any] = model.get("head") if model.accepts("head") else model
    path = Path(run_dir) if run_dir is not None else Path("runs") / named.name.rpartition(".")[2].rpartition(":")[2]
    if not main:
        return RunFolder(path)  # its processes are told the same command and write nothing
    folder = RunFolder.new(path)
    folder.recipe.write_text(to_yaml(recipe), encoding="utf-8")
    return folder


def _announce(shown: Display, splits: Splits, folder: RunFolder, notes: Sequence[str]) -> None:
    val = f"{len(splits.val)} to evaluate on" if splits.val is not None else "none to evaluate on"
    sizes = f"{len(splits.train)} images to learn from, {val}; results in {folder.path}"
    for line in (*notes, *splits.notes, sizes):
        shown.say(line)


class Callbacks(NamedTuple):
    """In the order in which they are called: what validation finds best is what the checkpoint callback has saved."""

    logger: MetricsLogger
    checkpoints: CheckpointCallback
    validation: Validation


def _callbacks(
    task: Task,
    val: Any | None,
    folder: RunFolder,
    shown: Display,
    options: RunOptions,
    workers: int,
    done: int | None,
    main: bool,
) -> Callbacks:
    """done: the step that a resumed run goes on from."""
    own = folder if main else None
    logger = MetricsLogger(own, shown, every=options.log_every, resumed_at=done)
    validation = Validation(
        val,
        own,
        logger,
        shown,
        headline=task.headline,
        every=options.eval_every,
        batch_size=options.eval_batch_size,
        workers=workers,
        history=[row for row in folder.read_history() if done is not None and row["step"] <= done],
    )
    checkpoints = CheckpointCallback(folder.last, every=options.checkpoint_every, is_due=validation.is_due)
    return Callbacks(logger, checkpoints, validation)


def _trainer(recipe: Recipe, devices: int | str, accelerator: str) -> pl.Trainer:
    _check_devices(devices, accelerator)
    with _quiet():
        return pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            plugins=[AtomicIO()],
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            deterministic=recipe.deterministic or None,
            benchmark=not recipe.deterministic,
        )


def _check_devices(devices: int | str, accelerator: str) -> None:
    """ValueError where a GPU is asked for and there are none, or fewer: Lightning's own error is a page long."""
    there = torch.cuda.device_count()
    asked = int(devices) if str(devices).isdigit() else 1
    if accelerator in ("gpu", "cuda") and there < asked:
        raise Refusal(
            f"accelerator: expected {asked} CUDA device{'s' * (asked > 1)}, of which torch finds {there} here",
            remedies=[{"accelerator": "cpu"}, "install a torch build for this machine's GPU"],
        )


def _fit(
    trainer: pl.Trainer, module: TrainModule, callbacks: Callbacks, shown: Display, resume: Path | str | None
) -> bool:
    """Train; True if a signal ended it."""
    trainer.callbacks += callbacks  # type: ignore[attr-defined]  # made before them: bad devices are refused first
    try:
        with _quiet(), callbacks.checkpoints.signals(), torch._dynamo.config.patch(recompile_limit=_GRAPHS):
            trainer.fit(module, ckpt_path=None if resume is None else str(resume), weights_only=True)
            callbacks.validation.finish(trainer, module)
    except Interrupted as stop:
        shown.end()
        shown.say(f"{stop}; go on with: torso train --resume {stop.path}")
        return True
    return False


def _result(
    folder: RunFolder, module: TrainModule, callbacks: Callbacks, total: float, interrupted: bool, main: bool
) -> RunResult:
    logger, validation, best = callbacks.logger, callbacks.validation, callbacks.validation.best
    seconds = {"train": logger.train_seconds, "evaluate": validation.seconds, "total": total}
    speed = logger.images / logger.train_seconds if logger.train_seconds else 0.0
    if main:
        write_json(folder.timing, {**seconds, "images_per_second": speed})
    return RunResult(
        run_dir=folder.path,
        scores=validation.scores,
        best=None if best is None else best["scores"][validation.headline],
        best_epoch=None if best is None else best["epoch"],
        steps=module.trainer.global_step,
        seconds=seconds,
        images_per_second=speed,
        interrupted=interrupted,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advertisement, tips and warnings about choices that are made on purpose here."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
