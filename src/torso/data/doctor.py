"""A look at a data set before training: what is there, what differs between splits, what is kept, clipped, dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torso.data.clean import Depth, clean
from torso.data.doctor_report import Report, SplitReport
from torso.data.duplicates import same_images
from torso.data.layout import find_layout, open_dataset, splits


def examine(
    root: Path | str, splits: Sequence[str] | None = None, *, files: Depth = "header", holdout: float = 0.0
) -> Report:
    """Read and check splits of a data set (all by default); never raises for what is wrong with the data.

    files: `header` reads the size of each image, `decode` reads each whole. holdout: as in open_dataset.
    """
    folder = Path(root)
    try:
        kind, names = find_layout(folder).kind, tuple(splits or _split_names(folder, holdout))
    except ValueError as error:
        return Report(root=folder, kind="", splits={}, errors=(str(error),), notes=())
    reports: dict[str, SplitReport] = {}
    errors: list[str] = []
    for name in names:
        try:
            reports[name] = _examine_split(folder, name, reports.get("train"), files, holdout)
        except ValueError as error:
            errors.append(str(error))
    errors += [item.text for split in reports.values() for item in split.findings if item.action == "refused"]
    errors += _nothing_to_learn(reports)
    return Report(root=folder, kind=kind, splits=reports, errors=tuple(errors), notes=tuple(_compare(reports)))


def _split_names(root: Path, holdout: float) -> tuple[str, ...]:
    names = splits(root)
    return ("train", "val", *names[1:]) if holdout and "train" in names and "val" not in names else names


def _examine_split(root: Path, name: str, train: SplitReport | None, files: Depth, holdout: float) -> SplitReport:
    found = open_dataset(root, name, holdout=holdout)
    aligned = found.with_classes(train.annotations.class_names) if train is not None else found
    kept, findings = clean(aligned, files=files)
    return SplitReport(
        name=name,
        annotations=kept,
        images=len(found),
        boxes=len(found.boxes),
        own_classes=found.class_names,
        findings=tuple(findings),
    )


def _nothing_to_learn(reports: Mapping[str, SplitReport]) -> list[str]:
    train = reports.get("train")
    if train is None or len(train.annotations.boxes) or not train.images:
        return []
    return [f"{train.annotations.source}: no box is left to learn from; at least one was wanted: check the annotations"]


def _compare(reports: Mapping[str, SplitReport]) -> list[str]:
    notes = []
    train = reports.get("train")
    for split in reports.values():
        empty = [name for name, count in split.class_counts.items() if not count]
        if empty:
            notes.append(f"{split.name}: no boxes of {', '.join(empty)}")
        if train is not None and split is not train:
            notes += _list_notes(train, split) + _share_notes(train, split)
    names = list(reports)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = same_images(reports[first].annotations, reports[second].annotations)
            notes += [f"{a} ({first}) and {b} ({second}) are the same image: {second} flatters" for a, b in shared]
    return notes


def _list_notes(train: SplitReport, other: SplitReport) -> list[str]:
    ours, theirs = train.own_classes, other.own_classes
    notes = [f"class {name} is listed in train only" for name in ours if name not in theirs]
    notes += [f"class {name} is listed in {other.name} only, without boxes" for name in theirs if name not in ours]
    if not notes and ours != theirs:
        notes.append(f"the classes of {other.name} come in another order than those of train; they are matched by name")
    return notes


def _share_notes(train: SplitReport, other: SplitReport) -> list[str]:
    """Classes whose share of the boxes differs by more than twofold, where chance (four sigma) does not explain it."""
    ours, theirs = train.class_counts, other.class_counts
    total_a, total_b = max(sum(ours.values()), 1), max(sum(theirs.values()), 1)
    notes = []
    for name in ours:
        a, b = ours[name] / total_a, theirs[name] / total_b
        sigma = (max(a, b) * (1 / total_a + 1 / total_b)) ** 0.5
        if max(a, b) > 2 * min(a, b) and abs(a - b) > 4 * sigma:
            notes.append(f"{name} is {a:.1%} of the boxes in train and {b:.1%} in {other.name}")
    return notes
