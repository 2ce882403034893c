"""The watch over finite losses: the device skips a bad step by itself; some steps later the host says so and stops."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torso.data.annotations import Annotations
from torso.engine.metrics import Report

_MOST_NAMED = 16


class NonFinite(ValueError):
    """A loss or gradient that is not a finite number; the weights never saw it. The message names step and pictures."""


def check_finite(report: Report, annotations: Annotations, *, overflow_is_normal: bool = False) -> None:
    """Raise NonFinite for the report of a step that was skipped.

    overflow_is_normal: with 16-bit loss scaling a gradient may overflow: the step is skipped and the scale halved,
    which only a loss that is itself not finite turns into an error.
    """
    bad = [name for name, total in zip(report.names, report.totals, strict=True) if not math.isfinite(total)]
    if not report.skipped or (overflow_is_normal and not bad):
        return
    raise NonFinite(_sentence(report, bad, annotations))


def _sentence(report: Report, bad: Sequence[str], annotations: Annotations) -> str:
    own = [name for name, total in zip(report.names, report.own, strict=True) if not math.isfinite(total)]
    what = f"the {' and '.join(bad)} loss was not finite" if bad else "the gradient was not finite"
    if bad and not own:
        where = "on another rank, whose message names the pictures"
    else:
        where = f"on these pictures: {_files(report.rows, annotations)}"
    return (
        f"step {report.step}: {what} {where}. Training stopped; no weight was touched by it. "
        "Look at these pictures and their boxes (torso doctor), or lower the learning rate, clip the gradient "
        "(clip_norm), warm up longer, or train in 32 bits"
    )


def _files(rows: Sequence[int], annotations: Annotations) -> str:
    names = list(dict.fromkeys(annotations.name(row) for row in rows))
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
