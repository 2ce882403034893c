"""What the page of a run says of detection: COCO's numbers, classes, curves over the score, images."""

from __future__ import annotations

from pathlib import Path

from torso.data.annotations import Annotations
from torso.evaluation.confusion import confusion
from torso.evaluation.curves import Sweep, pooled_threshold, sweep_scores
from torso.evaluation.detection import STATS, DetectionScores, evaluate_detections, percent
from torso.evaluation.results import Results, ResultsLike, as_results
from torso.evaluation.truth import GroundTruth, TruthLike, as_truth
from torso.report import page, plots
from torso.report.page import Draft
from torso.report.samples import Sample, draw_samples

_IOU = 0.5  # of the curves, the confusion table and the images


def detection_page(
    folder: Path,
    *,
    truth: TruthLike | None = None,
    results: ResultsLike | None = None,
    scores: DetectionScores | None = None,
    image_root: str | Path | None = None,
    samples_each: int = 4,
    seed: int = 0,
) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]], list[str]]:
    """Cards (what, value), sections (anchor, heading, HTML) and what could not be shown; images lie in folder.

    truth and results: what was evaluated (scores are computed where they are not given). image_root: the folder that
    the truth's file names start from; Annotations know it themselves.
    """
    draft = Draft(folder)
    evaluated = as_truth(truth) if truth is not None else None
    found = as_results(results, evaluated) if results is not None and evaluated is not None else None
    if scores is None and evaluated is not None and found is not None:
        scores = evaluate_detections(evaluated, found)
    root = truth.root if image_root is None and isinstance(truth, Annotations) else image_root
    _scores_section(draft, scores)
    _samples_section(draft, evaluated, found, Path(root) if root is not None else None, samples_each, seed)
    _classes_section(draft, scores, evaluated, found)
    return _cards(scores), draft.sections, draft.missing


def _cards(scores: DetectionScores | None) -> list[tuple[str, str]]:
    if scores is None:
        return []
    numbers = [(name, percent(getattr(scores, name))) for name in ("AP", "AP50", "AP75", "AR100")]
    return [*numbers, ("images evaluated", f"{scores.images:,}"), ("objects", f"{scores.boxes:,}")]


def _scores_section(draft: Draft, scores: DetectionScores | None) -> None:
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


def _classes_section(
    draft: Draft, scores: DetectionScores | None, truth: GroundTruth | None, results: Results | None
) -> None:
    sweeps = sweep_scores(truth, results, iou=_IOU) if truth is not None and results is not None else ()
    body = ""
    if (scores is not None or sweeps) and draft.can_plot("Class and precision-recall figures"):
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
    draft: Draft, truth: GroundTruth | None, results: Results | None, root: Path | None, each: int, seed: int
) -> None:
    if truth is None or results is None or root is None or each < 1:
        draft.missing.append("Sample images: they need ground truth, results and the folder of the images.")
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
    draft.add("samples", "Images", body)


def _caption(sample: Sample) -> str:
    return f"{sample.name}: F1 {sample.f1:.2f}, {sample.objects} objects, {sample.found} predictions"
