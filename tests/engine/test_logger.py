"""What the recorder says beyond its rows."""

from __future__ import annotations

from torso.engine.logger import MetricsLogger
from torso.engine.progress import Silent


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_loss_far_above_its_beginning_is_said_once() -> None:
    shown = Heard()
    recorder = MetricsLogger(None, shown)
    for loss in (2.0, 3.0, 9.9):
        recorder._warn(loss)
    assert not shown.lines
    for loss in (11.0, 577.0):
        recorder._warn(loss)
    assert len(shown.lines) == 1
    assert "11 after it began with 2" in shown.lines[0]
    assert "lower lr or clip_norm" in shown.lines[0]
