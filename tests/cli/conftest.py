"""The command line run in this process, a tiny checkpoint, and a data set whose files must stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.commands import Command, Outcome, contents
from data.builders import CLASSES, write_coco

from torso.cli.main import main


@pytest.fixture
def torso(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*argv: object) -> Outcome:
        capsys.readouterr()
        code = main([str(a) for a in argv])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """Eight images to learn from and four to evaluate on; the test fails if a command changes one of them."""
    root = write_coco(tmp_path / "set", n_images=8, seed=0)
    write_coco(root, n_images=4, seed=1, split="val")
    before = contents(root)
    yield root
    assert contents(root) == before, "a command changed the user's files"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a tiny FCOS that knows the classes of `data` and answers with every score it has."""
    from torso.training.compose_recipe import compose_recipe
    from torso.weights import save

    recipe = compose_recipe(
        "fcos",
        num_classes=len(CLASSES),
        backbone="test_resnet",
        input="letterbox",
        overrides={
            "neck.channels": 16, "neck.coarsest": 32, "head.coarsest": 32, "head.channels": 16, "head.tower": 1,
            "head.score_threshold": 0.0, "input.size_hw": (64, 96),
        },
    )  # fmt: skip
    model = recipe.get("model").build()
    model.names = CLASSES
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save(path, model, recipe, category_ids=(1, 3, 5))
    return path
