"""What a step says of itself, brought to the host without waiting for the device; means over steps; metrics.csv."""

from __future__ import annotations

import csv
import io
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

_LAG = 8  # steps after which a report is taken even if that means waiting: bounds how far the host runs ahead


class Report(NamedTuple):
    """One step's numbers on the host. step: from 0; rows: the samples of this rank's window."""

    step: int
    names: tuple[str, ...]
    rows: tuple[int, ...]
    counts: list[float]
    totals: list[float]
    own: list[float]
    extra: list[float]
    norm: float
    skipped: bool


class Reports:
    """A queue of reports on their way from the device: a pinned copy and an event each, never a synchronisation.

    together: several ranks must act on the same step, so each takes a report exactly `_LAG` steps later.
    """

    def __init__(self, *, together: bool = False) -> None:
        self.together = together
        self._waiting: deque[tuple[Report, Tensor, torch.cuda.Event | None]] = deque()

    def push(
        self,
        step: int,
        names: tuple[str, ...],
        rows: Sequence[int],
        vectors: Sequence[Tensor],
    ) -> None:
        """vectors: counts [T], totals [T], own [T], norm and skipped [2], extra [E], all on one device."""
        report = Report(step, names, tuple(rows), [], [], [], [], 0.0, False)
        values = torch.cat(tuple(vectors))
        event = None
        if values.is_cuda:
            pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            values = pinned.copy_(values, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._waiting.append((report, values, event))

    def ready(self, *, all: bool = False) -> Iterator[Report]:
        """Reports that have arrived, oldest first; all: wait for every one (the end of a run)."""
        while self._waiting and (all or self._arrived()):
            report, values, event = self._waiting.popleft()
            if event is not None:
                event.synchronize()
            yield _filled(report, values.tolist())

    def _arrived(self) -> bool:
        if len(self._waiting) > _LAG:
            return True
        event = self._waiting[0][2]
        return not self.together and (event is None or bool(event.query()))  # type: ignore[no-untyped-call]


def _filled(report: Report, values: list[float]) -> Report:
    size = len(report.names)
    return report._replace(
        counts=values[:size],
        totals=values[size : 2 * size],
        own=values[2 * size : 3 * size],
        norm=values[3 * size],
        skipped=values[3 * size + 1] > 0,
        extra=values[3 * size + 2 :],
    )


class Means:
    """Means of the loss and its terms over the steps since the last take(); of the norm over those that happened."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps: dict[str, int] = {}

    def add(self, report: Report) -> None:
        """Count one step in."""
        shares = [t / max(c, 1.0) for t, c in zip(report.totals, report.counts, strict=True)]
        norm = () if report.skipped else (("norm", report.norm),)  # 16-bit overflow: the norm is no number
        for name, value in (("loss", sum(shares)), *zip(report.names, shares, strict=True), *norm):
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._steps[name] = self._steps.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """{"loss", each term, "norm" (of the gradient, before clipping)}, empty if there was no step; starts anew."""
        means = {name: value / self._steps[name] for name, value in self._sums.items()}
        self._sums, self._steps = {}, {}
        return means


class MetricsFile:
    """metrics.csv: one row an entry, its columns grow as names appear, appended to by a resumed run."""

    def __init__(self, path: Path, *, keep_until_step: int | None = None) -> None:
        """keep_until_step: rows of later steps are dropped: the resumed run will write them again."""
        self.path = path
        self._columns: list[str] = []
        if keep_until_step is not None and path.is_file():
            rows = [row for row in read_metrics(path) if int(row["step"]) <= keep_until_step]
            self._columns = list(dict.fromkeys(name for row in rows for name in row))
            self._rewrite(rows)

    def append(self, row: Mapping[str, float | int]) -> None:
        """One more row; it needs a "step"."""
        new = [name for name in row if name not in self._columns]
        if new:
            rows: list[dict[str, Any]] = read_metrics(self.path) if self.path.is_file() else []
            self._columns += new
            self._rewrite(rows)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(_rounded(row))

    def _rewrite(self, rows: Sequence[Mapping[str, Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
        os.replace(temporary, self.path)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv, only the columns that a row has a value for."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def _rounded(row: Mapping[str, float | int]) -> dict[str, str]:
    return {name: str(value) if isinstance(value, int) else f"{value:.6g}" for name, value in row.items()}
