"""What follows a run: the report page, where everything lies, and the commands that come next."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torso import __version__
from torso.data.files import load_json

if TYPE_CHECKING:
    from torso.engine.run_folder import RunResult
    from torso.engine.task import Task

_LIBRARIES = ("torch", "torchvision", "timm", "pytorch-lightning", "faster-coco-eval")


def finish(result: RunResult, splits: Any, *, limit: int | None = None, command: str | None = None) -> Path:
    """Write the page and say what there is and what can be done with it; returns the page."""
    from torso.engine.task import task_of
    from torso.yaml_text import from_yaml

    recipe = from_yaml(result.run_dir / "recipe.yaml")
    task = task_of(recipe.get("model"))
    opened = task.open(splits, recipe, holdout=0, limit=limit)  # as the run did: classes in train's order, cut
    page = write_page(result, task, opened.val, command=command)
    lines = [""]
    if result.best is not None and result.best_epoch is not None:
        lines.append(f"best {task.headline} on val {100 * result.best:.1f} (epoch {result.best_epoch + 1})")
    folder = opened.origin["folder"] if opened.origin else "DIR"
    lines += [
        f"report    {page}",
        f"weights   {result.weights}",
        f"run       {result.run_dir} (recipe.yaml, metrics.csv, predictions.json, checkpoints)",
        "",
        "next",
        f"  torso eval {_quoted(result.weights)} --data {_quoted(folder)}",
        f"  torso predict {_quoted(result.weights)} IMAGES --out found",
        f"  torso train MODEL --data DIR --init {_quoted(result.weights)}",
    ]
    print("\n".join(lines), flush=True)
    return page


def write_page(result: RunResult, task: Task, val: Any | None, *, command: str | None = None) -> Path:
    """The report of a finished run."""
    from torso.report.report import report_folder, write_run_page

    folder = result.run_dir
    predictions = folder / "predictions.json"
    kept = load_json(predictions) if predictions.is_file() else None
    cards, sections, missing = task.page(val, kept, report_folder(folder))
    return write_run_page(
        folder,
        title=f"torso: {folder.name}",
        cards=cards,
        sections=sections,
        missing=missing,
        config=(folder / "recipe.yaml").read_text(encoding="utf-8"),
        command=command,
        versions={"torso": __version__, **{name: version(name) for name in _LIBRARIES}},
        timing=result.seconds,
    )


def _quoted(path: str | Path) -> str:
    return shlex.quote(str(path))
