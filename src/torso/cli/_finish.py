"""What follows a run: the report page, where everything lies, and the commands that come next."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from torso import __version__
from torso.data.files import load_json

if TYPE_CHECKING:
    from torso.data.annotations import Annotations
    from torso.data.splits import Splits
    from torso.engine.run_folder import RunResult

_LIBRARIES = ("torch", "torchvision", "timm", "pytorch-lightning", "faster-coco-eval")


def finish(result: RunResult, splits: Splits, *, limit: int | None = None, command: str | None = None) -> Path:
    """Write the page and say what there is and what can be done with it; returns the page."""
    page = write_page(result, splits, limit=limit, command=command)
    lines = [""]
    if result.best is not None and result.best_epoch is not None:
        lines.append(f"best AP on val {100 * result.best:.1f} (epoch {result.best_epoch + 1})")
    lines += [
        f"report    {page}",
        f"weights   {result.weights}",
        f"run       {result.run_dir} (recipe.yaml, metrics.csv, predictions.json, checkpoints)",
        "",
        "next",
        f"  torso eval {_quoted(result.weights)} --data {_quoted(splits.origin['folder'] if splits.origin else 'DIR')}",
        f"  torso predict {_quoted(result.weights)} PICTURES --out found",
        f"  torso train MODEL --data DIR --init {_quoted(result.weights)}",
    ]
    print("\n".join(lines), flush=True)
    return page


def write_page(result: RunResult, splits: Splits, *, limit: int | None = None, command: str | None = None) -> Path:
    """The report of a finished run."""
    from torso.report.report import write_report

    folder = result.run_dir
    judged = _judged(splits, folder, limit)
    predictions = folder / "predictions.json"
    return write_report(
        folder,
        title=f"torso: {folder.name}",
        truth=judged,
        results=load_json(predictions) if judged is not None and predictions.is_file() else None,
        config=(folder / "recipe.yaml").read_text(encoding="utf-8"),
        command=command,
        versions={"torso": __version__, **{name: version(name) for name in _LIBRARIES}},
        timing=result.seconds,
    )


def _judged(splits: Splits, folder: Path, limit: int | None) -> Annotations | None:
    """The val split as the run judged it: classes in train's order, cut to the limit, "object" for a proposer."""
    from torso.compose import finds_objects_only
    from torso.data.splits import choose_splits
    from torso.yaml_text import from_yaml

    proposer = finds_objects_only(from_yaml(folder / "recipe.yaml").get("model"))
    chosen = choose_splits(splits, holdout=0, limit=limit, objects_only=proposer)
    return chosen.val


def _quoted(path: str | Path) -> str:
    return shlex.quote(str(path))
