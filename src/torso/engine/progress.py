"""What a person sees of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Display(Protocol):
    """Told what happens; shows it."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """A stretch of `total` steps of which `done` lie behind (an epoch, an evaluation)."""

    def advance(self, numbers: Mapping[str, float] | None = None) -> None:
        """One step more; numbers: shown until others come."""

    def end(self) -> None:
        """The stretch is over."""


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None: ...

    def begin(self, what: str, total: int, done: int = 0) -> None: ...

    def advance(self, numbers: Mapping[str, float] | None = None) -> None: ...

    def end(self) -> None: ...


class Lines:
    """A line every `seconds`, and one at the end of each stretch: for files and pipes."""

    def __init__(self, seconds: float = 20.0) -> None:
        self.seconds = seconds
        self._what, self._done, self._total, self._numbers = "", 0, 0, ""
        self._started = self._shown = time.monotonic()

    def say(self, text: str) -> None:
        print(text, flush=True)

    def begin(self, what: str, total: int, done: int = 0) -> None:
        self._what, self._done, self._total, self._numbers = what, done, total, ""
        self._started = self._shown = time.monotonic()

    def advance(self, numbers: Mapping[str, float] | None = None) -> None:
        self._done += 1
        self._numbers = _words(numbers) if numbers else self._numbers
        if time.monotonic() - self._shown > self.seconds:
            self._show()

    def end(self) -> None:
        if self._what:
            self._show()
            self._what = ""

    def _show(self) -> None:
        self._shown = time.monotonic()
        seconds = self._shown - self._started
        self.say(f"{self._what}  {self._done}/{self._total}  {seconds:.0f} s  {self._numbers}".rstrip())


class Bar:
    """A live bar; finished stretches stay as lines."""

    def __init__(self) -> None:
        self._console = Console(stderr=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def begin(self, what: str, total: int, done: int = 0) -> None:
        self.end()
        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
        )  # fmt: skip
        self._progress = Progress(*columns, console=self._console)
        self._task = self._progress.add_task(what, total=total, completed=done, numbers="")
        self._progress.start()

    def advance(self, numbers: Mapping[str, float] | None = None) -> None:
        if self._progress is None:
            return
        if numbers:
            self._progress.update(self._task, advance=1, numbers=_words(numbers))
        else:
            self._progress.update(self._task, advance=1)

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def display(progress: bool) -> Display:
    """A bar where standard output is a terminal, lines where it is not, nothing where progress is unwanted."""
    if not progress:
        return Silent()
    return Bar() if sys.stdout.isatty() else Lines()


def _words(numbers: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
