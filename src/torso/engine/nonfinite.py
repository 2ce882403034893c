"""Losses that are not finite: the device skips a bad step by itself; some steps later the host says so and stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torso.engine.metrics import Report

_MOST_NAMED = 16

Describe = Callable[[Sequence[int]], Sequence[str]]


class NonFinite(ValueError):
    """A loss or gradient that is not a finite number; the weights never saw it. The message names step and images."""


def check_finite(report: Report, describe: Describe, *, overflow_is_normal: bool = False) -> None:
    """Raise NonFinite for the report of a step that was skipped. describe: the names of samples by their rows.

    overflow_is_normal: with 16-bit loss scaling a gradient may overflow: the step is skipped and the scale halved,
    which only a loss that is itself not finite turns into an error.
    """
    bad = [name for name, total in zip(report.names, report.totals, strict=True) if not math.isfinite(total)]
    if not report.skipped or (overflow_is_normal and not bad):
        return
    raise NonFinite(_sentence(report, bad, describe))


def _sentence(report: Report, bad: Sequence[str], describe: Describe) -> str:
    own = [name for name, total in zip(report.names, report.own, strict=True) if not math.isfinite(total)]
    what = f"the {' and '.join(bad)} loss was not finite" if bad else "the gradient was not finite"
    if bad and not own:
        where = "on another rank, whose message names the images"
    else:
        where = f"on these images: {_files(describe(report.rows))}"
    return (
        f"step {report.step}: {what} {where}. Training stopped; no weight was touched by it. "
        "Look at these images and their labels (torso doctor), or lower the learning rate, clip the gradient "
        "(clip_norm), warm up longer, or train in 32 bits"
    )


def _files(rows: Sequence[str]) -> str:
    names = list(dict.fromkeys(rows))
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
