"""Inference never imports training: by reading every import, and by running a detector and looking what was loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
BELOW = ("data", "training", "evaluation", "anchors", "engine", "tasks", "export", "report", "loop", "app", "cli")
HEAVY = ("torch", "torchvision", "timm", "pydantic", "pytorch_lightning", "numpy", "yaml", "matplotlib")


def above_the_line() -> list[Path]:
    files = sorted((SOURCE / "torso").rglob("*.py"))
    # `python -m torso` is the command line; __init__ names what is public and imports it when it is asked for
    apart = (*BELOW, "loop.py", "__main__.py", "__init__.py")
    return [f for f in files if f.relative_to(SOURCE / "torso").parts[0] not in apart]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of a file, those inside functions and type-checking blocks included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides where it leads"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_the_walk_sees_the_house() -> None:
    known = {str(f.relative_to(SOURCE / "torso")) for f in above_the_line()}
    assert {"types.py", "models/detector.py", "heads/dense.py", "suppression/nms.py", "weights.py"} <= known
    assert tuple(b for b in BELOW if b in ("training", "cli")) == ("training", "cli")


@pytest.mark.parametrize("path", above_the_line(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_nothing_above_the_line_imports_below_it(path: Path) -> None:
    crossing = [
        f"{path.name}:{line} imports {module}"
        for line, module in imports(path)
        if module.split(".")[0] == "torso" and module.split(".")[1:2] and module.split(".")[1] in BELOW
    ]
    assert not crossing


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    return set(out.stdout.split("\n"))


def test_building_and_running_a_detector_loads_nothing_of_training() -> None:
    modules = loaded_after(
        "import torch, torso\n"
        "o = {'backbone.name': 'test_resnet', 'head.channels': 8, 'head.tower': 1}\n"
        "m = torso.create('retinanet', class_names=('a',), overrides={**o, 'neck.channels': 8}).eval()\n"
        "m.predict(torch.zeros(3, 40, 50, dtype=torch.uint8))\n"
    )
    assert "torso.heads.dense" in modules
    assert "torso.inference.predictor" in modules
    assert not [m for m in modules for b in BELOW if m == f"torso.{b}" or m.startswith(f"torso.{b}.")]
    assert "pytorch_lightning" not in modules


def test_import_torso_is_light() -> None:
    modules = loaded_after("import torso; torso.part; torso.names('necks'); torso.describe('heads'); torso.__version__")
    assert "torso.parts" in modules
    assert not modules & set(HEAVY)
