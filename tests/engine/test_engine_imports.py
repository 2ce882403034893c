"""The engine knows models, batches, terms and scores, and nothing of what is in an image: read from its imports."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_import_line import imports

import torso.engine

FILES = sorted(Path(torso.engine.__file__).parent.glob("*.py"))
TASKS_OWN = ("data.annotations", "data.targets", "evaluation", "models", "heads", "anchors", "tasks", "report", "cli")
BANNED = tuple(f"torso.{name}" for name in TASKS_OWN)
KNOWN_OF_DATA = {"torso.data.files", "torso.data.sampler"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_a_file_of_the_engine_imports_no_task(path: Path) -> None:
    crossing = [f"{path.name}:{line} imports {name}" for line, name in imports(path) if name.startswith(BANNED)]
    assert not crossing
    of_data = {name.rpartition(".")[0] for _, name in imports(path) if name.startswith("torso.data.")}
    assert of_data <= KNOWN_OF_DATA


def test_no_word_of_a_task_decides_anything() -> None:
    assert len(FILES) > 15
    for path in [*FILES, *Path(torso.engine.__file__).parents[1].joinpath("cli").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert "if task" not in text, path
        assert '"heads.rpn"' not in text, path
