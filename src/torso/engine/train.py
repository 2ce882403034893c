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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from torso.anchors.coverage import prior_note
from torso.bounds import Count, Whole
from torso.data.annotations import Annotations
from torso.data.splits import Data, Splits, choose_splits
from torso.engine.checkpoint_file import KEY, AtomicIO, load_checkpoint
from torso.engine.checkpointing import Interrupted, Keeper
from torso.engine.logger import Recorder
from torso.engine.module import DetectionTask
from torso.engine.progress import Display, Silent, display
from torso.engine.run_folder import RunFolder, RunResult, Watch, write_json
from torso.engine.sync_norm import synchronise
from torso.engine.validation import Judge
from torso.models.detector import Detector
from torso.parts import Part
from torso.plain_values import checked
from torso.training.recipes.recipe import Recipe
from torso.weights import transfer
from torso.yaml_text import to_yaml

_GRAPHS = 64  # target sizes x picture shapes x with and without gradients, before torch gives compiling up


@checked
def train(
    recipe: Part[Recipe] | None = None,
    data: Data | None = None,
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
) -> RunResult:
    """Train and judge; returns what RunFolder lists.

    Args:
        recipe: its head gets as many classes as the data has. None only with resume.
        data: a folder (COCO, VOC or YOLO: checked like `torso doctor`), or (train, val) annotations that are clean.
            None with resume: the folder that the run was started on.
        run_dir: of the results; the first free of NAME, NAME-2, ... Default runs/ and the head's name.
        resume: a checkpoint of a run: goes on in its folder from where it stands, to the same bits on the CPU.
            recipe, where given too, must be the run's own.
        init: weights or a checkpoint to start from; what fits by name and shape is copied, what was is printed.
        devices, accelerator: Lightning's ("auto", 2; "cpu", "gpu"). workers: of the loader; None: one a core, 8 at
            most. holdout: share of train that becomes val where a folder has none.
        limit: so many pictures of train and of val, for a quick look.
        eval_every: epochs between evaluations on val; the last epoch is always judged.
        log_every: steps. checkpoint_every: steps; None: three minutes. An epoch's end is always kept.

    A signal (SIGTERM, Ctrl-C) ends it after the step at hand, with a checkpoint: the result says `interrupted`.
    Raises ValueError, in one sentence, for data that may not be trained on, a checkpoint that does not fit, and
    (NonFinite) a loss that is not finite.
    """
    start = time.monotonic()
    watch = Watch(
        eval_every=eval_every, eval_batch_size=eval_batch_size, log_every=log_every, checkpoint_every=checkpoint_every
    )
    main = getattr(rank_zero_only, "rank", 0) == 0
    shown = display(progress) if main else Silent()
    record = None if resume is None else _record(Path(resume))
    recipe = _recipe(recipe, record)
    splits = _splits(recipe, data, record, holdout, limit)
    recipe = recipe.override("model.head.num_classes", len(splits.train.class_names))
    model = build_model(recipe, splits.train.class_names, load=resume is None)
    if init is not None and resume is None:
        shown.say(str(transfer(model, init)))
    workers = min(os.cpu_count() or 1, 8) if workers is None else workers
    task = DetectionTask(recipe, model, splits.train, workers=workers, origin=splits.origin)
    trainer = _trainer(task.recipe, devices, accelerator)
    if task.recipe.sync_bn:
        shown.say(synchronise(model, trainer.world_size))
    folder = _folder(recipe, run_dir, resume, main)  # only now: a run that is refused leaves nothing behind
    if resume is None and (warning := prior_note(model, task.step.criterion, splits.train)) is not None:
        shown.say(warning)
    _announce(shown, splits, folder)
    crew = _crew(splits.val, folder, shown, watch, workers, None if record is None else record["global_step"], main)
    interrupted = _fit(trainer, task, crew, shown, resume)
    return _result(folder, task, crew, time.monotonic() - start, interrupted, main)


def build_model(recipe: Part[Recipe], names: tuple[str, ...], *, load: bool = True) -> Detector:
    """The recipe's model on the CPU, seeded, with class names and (load) the pretrained weights that it asks for.

    ValueError where they cannot be had, or where the criterion cannot train this model.
    """
    built = recipe.build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(built.seed)
        model: Detector = built.model.build()
    model.names = names
    built.criterion.build().check(model)
    if built.pretrained is not None and load:
        model.backbone.load_pretrained(built.pretrained)
    return model


def _finds_objects_only(recipe: Part[Recipe]) -> bool:
    name: str = recipe.get("model").get("head").name
    return name == "heads.rpn"


def _record(resume: Path) -> dict[str, Any]:
    """What the checkpoint says beside its tensors."""
    checkpoint = load_checkpoint(resume)
    return {**checkpoint[KEY], "global_step": checkpoint["global_step"], "path": resume}


def _recipe(recipe: Part[Recipe] | None, record: dict[str, Any] | None) -> Part[Recipe]:
    if record is None:
        if recipe is None:
            raise ValueError(
                "no recipe came; give one (torso.training.compose_recipe.compose_recipe), or a run to resume"
            )
        return recipe
    kept: Part[Recipe] = Part.from_dict(record["recipe"])
    classes = kept.get("model").get("head").get("num_classes")
    if recipe is not None and recipe.override("model.head.num_classes", classes) != kept:
        raise ValueError(
            f"{record['path']} was trained by another recipe than the one given; resume without a recipe, or start a "
            "new run with init"
        )
    return kept


def _splits(
    recipe: Part[Recipe], data: Data | None, record: dict[str, Any] | None, holdout: float, limit: int | None
) -> Splits:
    if data is None and record is not None and record["origin"] is not None:
        data, holdout, limit = (record["origin"][key] for key in ("folder", "holdout", "limit"))
    if data is None:
        raise ValueError("no data came; give the folder of a data set, or (train, val) annotations")
    splits = choose_splits(data, holdout=holdout, limit=limit, objects_only=_finds_objects_only(recipe))
    if record is not None and list(splits.train.class_names) != record["names"]:
        raise ValueError(
            f"{record['path']} knows the classes {', '.join(record['names'])}, the data has "
            f"{', '.join(splits.train.class_names)}; resume with the data of its start, or start a new run with init"
        )
    return splits


def _folder(recipe: Part[Recipe], run_dir: Path | str | None, resume: Path | str | None, main: bool) -> RunFolder:
    if resume is not None:
        return RunFolder.of(Path(resume))
    name = recipe.get("model").get("head").name.rpartition(".")[2].rpartition(":")[2]
    path = Path(run_dir) if run_dir is not None else Path("runs") / name
    if not main:
        return RunFolder(path)  # its processes are told the same command and write nothing
    folder = RunFolder.new(path)
    folder.recipe.write_text(to_yaml(recipe), encoding="utf-8")
    return folder


def _announce(shown: Display, splits: Splits, folder: RunFolder) -> None:
    judged = f"{len(splits.val)} to judge on" if splits.val is not None else "none to judge on"
    for line in (*splits.notes, f"{len(splits.train)} pictures to learn from, {judged}; results in {folder.path}"):
        shown.say(line)


class _Crew(NamedTuple):
    """Who looks after a run, in the order in which they are called: the judge's best is what the keeper has saved."""

    recorder: Recorder
    keeper: Keeper
    judge: Judge


def _crew(
    val: Annotations | None,
    folder: RunFolder,
    shown: Display,
    watch: Watch,
    workers: int,
    done: int | None,
    main: bool,
) -> _Crew:
    """done: the step that a resumed run goes on from."""
    own = folder if main else None
    recorder = Recorder(own, shown, every=watch.log_every, resumed_at=done)
    judge = Judge(
        val,
        own,
        recorder,
        shown,
        every=watch.eval_every,
        batch_size=watch.eval_batch_size,
        workers=workers,
        history=[row for row in folder.read_history() if done is not None and row["step"] <= done],
    )
    return _Crew(recorder, Keeper(folder.last, every=watch.checkpoint_every, judged=judge.due), judge)


def _trainer(recipe: Recipe, devices: int | str, accelerator: str) -> pl.Trainer:
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


def _fit(trainer: pl.Trainer, task: DetectionTask, crew: _Crew, shown: Display, resume: Path | str | None) -> bool:
    """Train; True if a signal ended it."""
    trainer.callbacks += crew  # type: ignore[attr-defined]  # made before them, so that bad devices are refused first
    try:
        with _quiet(), crew.keeper.signals(), torch._dynamo.config.patch(recompile_limit=_GRAPHS):
            trainer.fit(task, ckpt_path=None if resume is None else str(resume), weights_only=True)
            crew.judge.finish(trainer, task)
    except Interrupted as stop:
        shown.end()
        shown.say(f"{stop}; go on with: torso train --resume {stop.path}")
        return True
    return False


def _result(
    folder: RunFolder, task: DetectionTask, crew: _Crew, total: float, interrupted: bool, main: bool
) -> RunResult:
    recorder, judge, best = crew.recorder, crew.judge, crew.judge.best
    seconds = {"train": recorder.train_seconds, "evaluate": judge.seconds, "total": total}
    speed = recorder.pictures / recorder.train_seconds if recorder.train_seconds else 0.0
    if main:
        write_json(folder.timing, {**seconds, "images_per_second": speed})
    return RunResult(
        run_dir=folder.path,
        scores=judge.scores,
        best=None if best is None else best["scores"]["AP"],
        best_epoch=None if best is None else best["epoch"],
        steps=task.trainer.global_step,
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
