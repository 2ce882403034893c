"""What the tests of the command line share: an outcome, the flags of a tiny run, a look at a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Outcome(NamedTuple):
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line on standard error; fails where there is a traceback, nothing, or more."""
        lines = self.err.strip().splitlines()
        assert "Traceback" not in self.err + self.out
        assert len(lines) == 1, f"one sentence was wanted, {len(lines)} lines came:\n{self.err}"
        return lines[0]


Command = Callable[..., Outcome]

TINY = (
    "--backbone=test_resnet", "--neck.channels=16", "--neck.coarsest=32", "--head.coarsest=32", "--head.channels=16",
    "--head.tower=1", "--input=letterbox", "--input.size_hw=64,96",
)  # fmt: skip
"""Flags that make any one-stage model small."""

QUICK = ("--epochs=1", "--batch-size=4", "--warmup-steps=1", "--workers=0", "--accelerator=cpu", "--log-every=1")


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of every file below a folder."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}
