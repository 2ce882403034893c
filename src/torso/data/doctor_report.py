"""The doctor's answer: what was found in each split, as plain lines and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torso.data.annotations import Annotations
from torso.data.clean import Finding

_LISTED = 20  # findings of one kind and split that lines() writes out; as_json() has all
_ACTIONS = ("refused", "dropped", "clipped", "kept")


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitReport:
    """One split: how many images and boxes stand in the files, what training gets, and what lies between.

    own_classes: the split's own class list; annotations carry that of train.
    """

    name: str
    annotations: Annotations
    images: int
    boxes: int
    own_classes: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def class_counts(self) -> dict[str, int]:
        """Boxes of each class that are kept."""
        names = self.annotations.class_names
        counts = np.bincount(self.annotations.labels, minlength=len(names))
        return {name: int(count) for name, count in zip(names, counts, strict=True)}

    def count(self, action: str, *, of_images: bool) -> int:
        """How many images, or boxes, were dropped, clipped or kept with a word."""
        whole = {"missing", "unreadable", "size", "no_boxes"}
        return sum(finding.action == action and (finding.kind in whole) == of_images for finding in self.findings)


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """The doctor's answer. splits: cleaned, with train's class list, ready to train on. errors forbid to start."""

    root: Path
    kind: str
    splits: Mapping[str, SplitReport]
    errors: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def may_train(self) -> bool:
        """Whether training may start."""
        return not self.errors

    def lines(self) -> list[str]:
        """The report for a terminal, plain text."""
        text = [f"{self.root}: {self.kind}" if self.kind else f"{self.root}"]
        text += _split_table(self.splits) + _class_table(self.splits)
        for split in self.splits.values():
            text += _finding_lines(split)
        text += [f"note: {note}" for note in self.notes] + [f"error: {error}" for error in self.errors]
        verdict = "Training may start." if self.may_train else f"Training may not start: {len(self.errors)} error(s)."
        return [*text, verdict]

    def as_json(self) -> dict[str, Any]:
        """Everything, every finding included, in plain values."""
        return {
            "root": str(self.root),
            "kind": self.kind,
            "may_train": self.may_train,
            "errors": list(self.errors),
            "notes": list(self.notes),
            "splits": {name: _split_json(split) for name, split in self.splits.items()},
        }


def _split_table(reports: Mapping[str, SplitReport]) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("split", "images", "dropped", "without boxes", "boxes", "dropped", "clipped", "left")
    ]
    for split in reports.values():
        counts = (
            split.images,
            split.count("dropped", of_images=True),
            split.count("kept", of_images=True),
            split.boxes,
            split.count("dropped", of_images=False),
            split.count("clipped", of_images=False),
            len(split.annotations.boxes),
        )
        rows.append((split.name, *map(str, counts)))
    return _aligned(rows) if reports else []


def _class_table(reports: Mapping[str, SplitReport]) -> list[str]:
    counts = {name: split.class_counts for name, split in reports.items()}
    classes = dict.fromkeys(key for split in counts.values() for key in split)
    totals = {name: max(sum(split.values()), 1) for name, split in counts.items()}
    rows: list[tuple[str, ...]] = [("class", *reports)]
    for key in classes:
        shares = (f"{counts[name].get(key, 0)} ({counts[name].get(key, 0) / totals[name]:.1%})" for name in reports)
        rows.append((key, *shares))
    return _aligned(rows) if classes else []


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _finding_lines(split: SplitReport) -> list[str]:
    lines = []
    for (action, kind), total in sorted(_kinds(split).items(), key=lambda item: _ACTIONS.index(item[0][0])):
        if action == "refused":
            continue
        texts = [item.text for item in split.findings if item.action == action and item.kind == kind]
        lines.append(f"{split.name}: {total} {action} ({kind.replace('_', ' ')})")
        lines += [f"  {text}" for text in texts[:_LISTED]]
        if total > _LISTED:
            lines.append(f"  ... and {total - _LISTED} more (the JSON report lists all)")
    return lines


def _kinds(split: SplitReport) -> Counter[tuple[str, str]]:
    return Counter((item.action, item.kind) for item in split.findings)


def _split_json(split: SplitReport) -> dict[str, Any]:
    return {
        "images": split.images,
        "images_kept": len(split.annotations),
        "boxes": split.boxes,
        "boxes_kept": len(split.annotations.boxes),
        "own_classes": list(split.own_classes),
        "classes": split.class_counts,
        "findings": [finding._asdict() for finding in split.findings],
    }
