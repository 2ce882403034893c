"""One page that shows a run: numbers, curves, classes, pictures, configuration. Any missing piece is named on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torso.data.annotations import Annotations
from torso.evaluation.confusion import confusion
from torso.evaluation.curves import Sweep, pooled_threshold, sweep_scores
from torso.evaluation.detection import STATS, DetectionScores, evaluate_detections, percent
from torso.evaluation.results import Results, ResultsLike, as_results
from torso.evaluation.truth import GroundTruth, TruthLike, as_truth
from torso.report import page, plots
from torso.report.metrics import find_metrics, read_metrics
from torso.report.samples import Sample, draw_samples

_IOU = 0.5  # of the curves, the confusion table and the pictures


@dataclass
class _Draft:
    """The page while it grows: sections (anchor, heading, HTML) and what could not be shown."""

    folder: Path
    sections: list[tuple[str, str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, anchor: str, heading: str, html: str) -> None:
        self.sections.append((anchor, heading, html))


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
    """Writes run_dir/report/index.html with its pictures and returns its path; nothing else in run_dir is touched.

    The curves come from metrics.csv in run_dir. truth and results: what was judged (scores are computed where they are
    not given). image_root: the folder that the truth's file names start from; Annotations know it themselves.
    config: the recipe as YAML text; timing: seconds by what took them. Whatever is absent, and figures when
    matplotlib is not installed, is named on the page. ValueError for results or pictures that cannot be read.
    """
    draft = _Draft(Path(run_dir) / "report")
    draft.folder.mkdir(parents=True, exist_ok=True)
    judged = as_truth(truth) if truth is not None else None
    found = as_results(results, judged) if results is not None and judged is not None else None
    if scores is None and judged is not None and found is not None:
        scores = evaluate_detections(judged, found)
    root = truth.root if image_root is None and isinstance(truth, Annotations) else image_root
    _scores_section(draft, scores)
    _samples_section(draft, judged, found, Path(root) if root is not None else None, samples_each, seed)
    _classes_section(draft, scores, judged, found)
    _curves_section(draft, Path(run_dir))
    _setup_section(draft, config, command, versions, timing)
    lead = page.cards(_headline(scores, timing)) + page.notice(draft.missing)
    intro = f"Run folder: {Path(run_dir).resolve().name}"
    target = draft.folder / "index.html"
    page.write(target, page.page(title, intro, draft.sections, lead))
    return target


def _headline(scores: DetectionScores | None, timing: Mapping[str, float] | None) -> list[tuple[str, str]]:
    numbers = []
    if scores is not None:
        numbers = [(name, percent(getattr(scores, name))) for name in ("AP", "AP50", "AP75", "AR100")]
        numbers += [("images judged", f"{scores.images:,}"), ("objects", f"{scores.boxes:,}")]
    return numbers + [(what, duration(seconds)) for what, seconds in (timing or {}).items()]


def duration(seconds: float) -> str:
    """75.3 -> 1 min 15 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _scores_section(draft: _Draft, scores: DetectionScores | None) -> None:
    if scores is None:
        draft.missing.append("Scores: no evaluation was given (truth with results, or scores).")
        return
    rows = [[f"{name}: {_MEANING[name]}", percent(getattr(scores, name))] for name in STATS]
    note = (
        f"{scores.images:,} images, {scores.boxes:,} objects, {scores.crowds:,} crowd regions, "
        f"{scores.detections:,} detections. In percent; a dash means that there was nothing to measure."
    )
    draft.add("scores", "COCO scores", page.paragraph(note) + page.table(["score", "%"], rows))


_MEANING = {
    "AP": "average precision, mean over IoU 0.50 to 0.95 and classes",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "APs": "of objects below 32 x 32 px",
    "APm": "of objects of 32 x 32 to 96 x 96 px",
    "APl": "of objects above 96 x 96 px",
    "AR1": "average recall with 1 detection an image and class",
    "AR10": "with 10 detections",
    "AR100": "with 100 detections",
    "ARs": "of objects below 32 x 32 px",
    "ARm": "of objects of 32 x 32 to 96 x 96 px",
    "ARl": "of objects above 96 x 96 px",
}


def _curves_section(draft: _Draft, run_dir: Path) -> None:
    file = find_metrics(run_dir)
    if file is None:
        draft.missing.append(f"Training curves: no metrics.csv in {run_dir.name}.")
        return
    metrics = read_metrics(file)
    groups = plots.group_curves(metrics.curves)
    if not groups:
        draft.missing.append(f"Training curves: {file.name} holds no numbers yet.")
        return
    if not _can_plot(draft, "Training curves"):
        return
    shown = []
    for name, curves in groups.items():
        picture = f"curves_{name.lower().replace(' ', '_')}.png"
        plots.plot_curves(name, curves, draft.folder / picture, x_label=metrics.axis)
        shown.append((picture, f"{name} over {metrics.axis}s: {', '.join(curve.name for curve in curves)}"))
    draft.add("training", "Training", page.figures(shown))


def _classes_section(
    draft: _Draft, scores: DetectionScores | None, truth: GroundTruth | None, results: Results | None
) -> None:
    sweeps = sweep_scores(truth, results, iou=_IOU) if truth is not None and results is not None else ()
    body = ""
    if (scores is not None or sweeps) and _can_plot(draft, "Class and precision-recall figures"):
        shown = []
        if scores is not None and any(one.boxes for one in scores.per_class):
            plots.plot_class_ap(scores.per_class, draft.folder / "class_ap.png")
            shown.append(("class_ap.png", "Average precision by class"))
        if truth is not None and results is not None:
            shown += _sweep_figures(draft.folder, truth, results, sweeps)
        body += page.figures(shown)
    if not sweeps:
        draft.missing.append("Precision-recall curves and confusion: ground truth and results were not both given.")
    if scores is not None:
        body += _class_table(scores, sweeps)
    if body:
        draft.add("classes", "Classes", body)


def _sweep_figures(
    folder: Path, truth: GroundTruth, results: Results, sweeps: tuple[Sweep, ...]
) -> list[tuple[str, str]]:
    cut = pooled_threshold(sweeps)
    plots.plot_precision_recall(sweeps, folder / "precision_recall.png", iou=_IOU)
    plots.plot_f1(sweeps, folder / "score_threshold.png", iou=_IOU)
    plots.plot_confusion(confusion(truth, results, score=cut, iou=_IOU), folder / "confusion.png")
    return [
        ("precision_recall.png", "Precision over recall, moving the score threshold"),
        ("score_threshold.png", f"The best F1 of all classes together lies at score {cut:.2f}"),
        ("confusion.png", "Rows: what it was; columns: what it was taken for"),
    ]


def _class_table(scores: DetectionScores, sweeps: tuple[Sweep, ...]) -> str:
    header = ["class", "objects", "detections", "AP", "AP50", "AP75", "AR100"]
    extra = ["best score", "precision", "recall", "F1"] if sweeps else []
    rows = []
    for label, one in enumerate(scores.per_class):
        row = [one.name, f"{one.boxes:,}", f"{one.detections:,}"]
        row += [percent(value) for value in (one.AP, one.AP50, one.AP75, one.AR100)]
        rows.append(row + (_best_cells(sweeps[label]) if sweeps else []))
    note = page.paragraph("Best score: the threshold of the highest F1 of the class at IoU 0.50.") if sweeps else ""
    return page.heading("By class") + note + page.table(header + extra, rows)


def _best_cells(sweep: Sweep) -> list[str]:
    if sweep.best is None:
        return ["-"] * 4
    values = (sweep.precision[sweep.best], sweep.recall[sweep.best], sweep.f1[sweep.best])
    return [f"{sweep.best_threshold:.2f}", *(percent(float(value)) for value in values)]


def _samples_section(
    draft: _Draft, truth: GroundTruth | None, results: Results | None, root: Path | None, each: int, seed: int
) -> None:
    if truth is None or results is None or root is None or each < 1:
        draft.missing.append("Sample pictures: they need ground truth, results and the folder of the images.")
        return
    cut = pooled_threshold(sweep_scores(truth, results, iou=_IOU))
    samples = draw_samples(draft.folder, truth, results, root, score=cut, each=each, seed=seed)
    body = page.paragraph(
        "Left: ground truth (dashed green). Right: predictions (solid, one colour a class) with a score of at least "
        f"{cut:.2f}, the threshold of the best F1. F1 is that of the single image at IoU 0.50."
    )
    for group in dict.fromkeys(sample.group for sample in samples):
        shown = [(sample.file, _caption(sample)) for sample in samples if sample.group == group]
        body += page.heading(group) + page.figures(shown)
    draft.add("samples", "Pictures", body)


def _caption(sample: Sample) -> str:
    return f"{sample.name}: F1 {sample.f1:.2f}, {sample.objects} objects, {sample.found} predictions"


def _setup_section(
    draft: _Draft,
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


def _can_plot(draft: _Draft, what: str) -> bool:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        draft.missing.append(f"{what}: matplotlib is not installed (pip install 'torso[plots]').")
        return False
    return True
