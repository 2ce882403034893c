"""One page that shows a run: its task's numbers and sections, curves, configuration. What is missing is named on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torso.evaluation.detection import DetectionScores
from torso.evaluation.results import ResultsLike
from torso.evaluation.truth import TruthLike
from torso.report import page, plots
from torso.report.detection import detection_page
from torso.report.metrics import find_metrics, read_metrics
from torso.report.page import Draft


def write_report(
    run_dir: str | Path,
    *,
    title: str = "Detection report",
    truth: TruthLike | None = None,
    results: ResultsLike | None = None,
    scores: DetectionScores | None = None,
    image_root: str | Path | None = None,
    config: str | None = None,
    command: str | None = None,
    versions: Mapping[str, str] | None = None,
    timing: Mapping[str, float] | None = None,
    samples_each: int = 4,
    seed: int = 0,
) -> Path:
    """Writes run_dir/report/index.html with its images and returns its path; nothing else in run_dir is touched.

    The curves come from metrics.csv in run_dir. truth and results: what was evaluated (scores are computed where none
    are given). image_root: the folder that the truth's file names start from; Annotations know it themselves.
    config: the recipe as YAML text; timing: seconds by what took them. Whatever is absent, and figures when
    matplotlib is not installed, is named on the page. ValueError for results or images that cannot be read.
    """
    folder = report_folder(run_dir)
    shown = detection_page(
        folder,
        truth=truth,
        results=results,
        scores=scores,
        image_root=image_root,
        samples_each=samples_each,
        seed=seed,
    )
    return write_run_page(
        run_dir,
        title=title,
        cards=shown[0],
        sections=shown[1],
        missing=shown[2],
        config=config,
        command=command,
        versions=versions,
        timing=timing,
    )


def report_folder(run_dir: str | Path) -> Path:
    """run_dir/report, made where it is not there: the page and its images lie in it."""
    folder = Path(run_dir) / "report"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_run_page(
    run_dir: str | Path,
    *,
    title: str,
    cards: Sequence[tuple[str, str]] = (),
    sections: Sequence[tuple[str, str, str]] = (),
    missing: Sequence[str] = (),
    config: str | None = None,
    command: str | None = None,
    versions: Mapping[str, str] | None = None,
    timing: Mapping[str, float] | None = None,
) -> Path:
    """The page of any task's run: cards (what, value), sections (anchor, heading, HTML) and what is missing of them,
    then what every run has: curves of metrics.csv, command, times, versions, configuration. Returns its path.
    """
    draft = Draft(report_folder(run_dir), list(sections), list(missing))
    _curves_section(draft, Path(run_dir))
    _setup_section(draft, config, command, versions, timing)
    spent = [(what, duration(seconds)) for what, seconds in (timing or {}).items()]
    lead = page.cards([*cards, *spent]) + page.notice(draft.missing)
    intro = f"Run folder: {Path(run_dir).resolve().name}"
    target = draft.folder / "index.html"
    page.write(target, page.page(title, intro, draft.sections, lead))
    return target


def duration(seconds: float) -> str:
    """75.3 -> 1 min 15 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _curves_section(draft: Draft, run_dir: Path) -> None:
    file = find_metrics(run_dir)
    if file is None:
        draft.missing.append(f"Training curves: no metrics.csv in {run_dir.name}.")
        return
    metrics = read_metrics(file)
    groups = plots.group_curves(metrics.curves)
    if not groups:
        draft.missing.append(f"Training curves: {file.name} holds no numbers yet.")
        return
    if not draft.can_plot("Training curves"):
        return
    shown = []
    for name, curves in groups.items():
        image = f"curves_{name.lower().replace(' ', '_')}.png"
        plots.plot_curves(name, curves, draft.folder / image, x_label=metrics.axis)
        shown.append((image, f"{name} over {metrics.axis}s: {', '.join(curve.name for curve in curves)}"))
    draft.add("training", "Training", page.figures(shown))


def _setup_section(
    draft: Draft,
    config: str | None,
    command: str | None,
    versions: Mapping[str, str] | None,
    timing: Mapping[str, float] | None,
) -> None:
    body = ""
    if command is not None:
        body += page.heading("Command") + page.code(command)
    if timing:
        body += page.heading("Time") + page.table(["what", "time"], [[k, duration(v)] for k, v in timing.items()])
    if versions:
        body += page.heading("Versions") + page.table(["package", "version"], [[k, v] for k, v in versions.items()])
    if config is not None:
        body += page.heading("Configuration") + page.code(config)
    parts = {"Command": command, "Timing": timing, "Versions": versions, "Configuration": config}
    absent = [name for name, value in parts.items() if not value]
    if absent:
        draft.missing.append(f"{', '.join(absent)}: not given.")
    if body:
        draft.add("setup", "How it was made", body)
