"""The documentation is true: its Python runs, its commands are understood, its pages build."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data.builders import CLASSES, write_coco

import torso
from torso.cli._flags import Parser
from torso.cli.main import VERBS, main
from torso.parts import index, names, part

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


COMMANDS = sorted(
    {
        line.split("#")[0].split(" > ")[0].strip()
        for page in PAGES
        for block in blocks(page, "bash")
        for line in block.splitlines()
        if line.startswith("torso ")
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command: str) -> None:
    """Every flag exists and takes such a value, every model and part is there."""
    verb, *argv = shlex.split(command)[1:]
    assert verb in VERBS
    module = importlib.import_module(f"torso.cli.{verb}")
    parser = Parser(prog=f"torso {verb}", description="")
    module.add_arguments(parser)
    args = parser.parse(argv)
    model = getattr(args, "model", None)
    assert model is None or model in names("zoo") or model.endswith(".yaml")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.split()[1] in ("show", "parts")])
def test_what_costs_little_is_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out


@pytest.mark.slow
def test_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block after block in one process, as a reader would type them; results differ, nothing may fail."""
    from torso.compose import compose_model
    from torso.weights import load, save

    write_coco(tmp_path / "data", n_images=4)
    write_coco(tmp_path / "data", n_images=2, seed=1, split="val")
    small = {"input.size_hw": (64, 64), "head.tower": 1}
    model = compose_model("fcos", num_classes=3, backbone="test_resnet", input="letterbox", overrides=small)
    save(tmp_path / "model.safetensors", model.build(), model, names=CLASSES)
    monkeypatch.chdir(tmp_path)
    known: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "python.md", "python"):
        exec(compile(block, "docs/python.md", "exec"), known)
    assert load(tmp_path / "mine.safetensors").names == CLASSES
    assert (tmp_path / "runs" / "small" / "model.safetensors").is_file()


@pytest.mark.parametrize("page", ["python.md", "example_loop.py"])
def test_the_examples_use_public_names_only(page: str) -> None:
    """They import torso itself, torch and the standard library, and every name of torso is a documented one."""
    path = ROOT / "docs" / page
    sources = [path.read_text(encoding="utf-8")] if page.endswith(".py") else blocks(path, "python")
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    imported = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
    assert {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names} == {"torso", "torch"}
    used = {
        n.attr
        for n in nodes
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "torso"
    }
    assert used <= set(torso.__all__)


def test_every_public_name_is_there_and_described() -> None:
    for name in torso.__all__:
        assert name == "__version__" or getattr(torso, name).__doc__


def test_the_readme_names_a_model_of_every_family() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    families = {index("zoo")[name].module for name in names("zoo")}
    shown = {index("zoo")[name].module for name in names("zoo") if f"`{name}`" in text}
    assert families == shown
    quoted = {
        name
        for row in re.findall(r"^\| (?:dense|YOLO|keypoints|two stages) \|.*$", text, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }
    assert quoted <= set(names("zoo"))


def test_the_example_loop_is_twenty_lines() -> None:
    loop = next(b for b in blocks(ROOT / "docs" / "python.md", "python") if "optimizer.step()" in b)
    code = [line for line in loop.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(code) <= 20


def test_the_examples_of_new_parts_work() -> None:
    import torch

    from torso.types import FeatureSpec

    known: dict[str, object] = {"__name__": "example"}
    for block in blocks(ROOT / "docs" / "adding_a_part.md", "python"):
        if "torso.zoo.one_anchor" in block:  # needs its other file: test_folders puts both into a copy of the package
            continue
        exec(compile(block, "docs/adding_a_part.md", "exec"), known)
    specs = (FeatureSpec(4, (8, 8)), FeatureSpec(8, (16, 16)))
    squeeze = part(known["Squeeze"], channels=6).build(specs)  # type: ignore[arg-type]
    maps = squeeze([torch.zeros(1, 4, 5, 7), torch.zeros(1, 8, 3, 4)])
    assert [tuple(m.shape[1:]) for m in maps] == [(6, 5, 7), (6, 3, 4)]
    head = part(known["OneAnchorHead"], num_classes=2, finest=8, coarsest=16).build(squeeze.out_specs)  # type: ignore[arg-type]
    assert head.num_classes == 2


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the documentation is built by mkdocs (extra dev)")
    pytest.importorskip("material", reason="the documentation's theme is mkdocs-material (extra dev)")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "architecture" / "index.html").is_file()
