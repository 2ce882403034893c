"""The folder of a run and what comes out of one: nothing that exists is ever overwritten by a new run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torso.bounds import Count
from torso.data.files import load_json
from torso.plain_values import check_fields
from torso.weights import write_atomic


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How often a run is evaluated, logged and saved; none of it decides the weights. Arguments of engine.train."""

    eval_every: Count = 1
    eval_batch_size: Count = 8
    log_every: Count = 20
    checkpoint_every: Count | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What training leaves.

    run_dir: its folder (see RunFolder). scores: the task's Scores (DetectionScores ...) of the last evaluation on val;
    best, best_epoch: the highest headline number of the task (AP ...) on val and the epoch (from 0) after which it was
    reached; all three None without a val split or where no epoch was evaluated.
    steps: optimiser steps done in all. seconds: by what took them: "train", "evaluate", "total" (of this process).
    images_per_second: of training alone. interrupted: ended by a signal; resume_from then continues it.
    """

    run_dir: Path
    scores: Any
    best: float | None
    best_epoch: int | None
    steps: int
    seconds: dict[str, float] = field(default_factory=dict)
    images_per_second: float = 0.0
    interrupted: bool = False

    @property
    def weights(self) -> Path:
        """The published weights: those of the best epoch (the averaged ones where an EMA was kept)."""
        return self.run_dir / "model.safetensors"

    @property
    def resume_from(self) -> Path:
        """The last checkpoint."""
        return self.run_dir / "checkpoints" / "last.ckpt"


class RunFolder:
    """runs/NAME with
    recipe.yaml             what was trained: `torso train recipe.yaml` repeats it
    checkpoints/last.ckpt   where the run is; last.previous.ckpt the one before; best.ckpt of the best epoch
    model.safetensors       published weights of the best epoch
    metrics.csv             a row an interval and an epoch; events.* for TensorBoard where it is installed
    history.json            scores of every evaluated epoch; predictions.json: of the best one on val (COCO results ...)
    timing.json             seconds by what took them, and images a second
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.last = path / "checkpoints" / "last.ckpt"
        self.best = path / "checkpoints" / "best.ckpt"
        self.weights = path / "model.safetensors"
        self.metrics = path / "metrics.csv"
        self.history = path / "history.json"
        self.predictions = path / "predictions.json"
        self.timing = path / "timing.json"

    @classmethod
    def new(cls, path: Path) -> RunFolder:
        """Made at `path`, or at the first free of path-2, path-3, ...; an existing empty folder is taken."""
        candidate, number = path, 1
        while True:
            try:
                candidate.mkdir(parents=True)
                return cls(candidate)
            except FileExistsError:
                if candidate.is_dir() and not any(candidate.iterdir()):
                    return cls(candidate)
            number += 1
            candidate = path.with_name(f"{path.name}-{number}")

    @classmethod
    def of(cls, checkpoint: Path) -> RunFolder:
        """The folder that a checkpoint of a run lies in."""
        return cls(checkpoint.resolve().parent.parent)

    def read_history(self) -> list[dict[str, Any]]:
        """[{"epoch", "step", "scores": Scores.to_dict()}, ...], empty before the first evaluated epoch."""
        rows: list[dict[str, Any]] = load_json(self.history, "a history of scores") if self.history.is_file() else []
        return rows


def write_json(path: Path, content: object) -> None:
    """Whole or not at all."""
    write_atomic(path, json.dumps(content, indent=1).encode())
