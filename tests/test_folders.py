"""Which names the folders give: read in a copy of the package, into which files are put as somebody would add them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import torso
from torso import folders
from torso.errors import PartError
from torso.folders import KINDS, find, index, is_name, names, qualified_name, refusals

NAMES_OF_BEFORE = Path(__file__).with_name("part_names.txt").read_text(encoding="utf-8").split()


class House:
    """A copy of the package, asked in a process of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(Path(torso.__file__).parent, root / "torso", ignore=shutil.ignore_patterns("__pycache__"))

    def put(self, name: str, text: str) -> None:
        (self.root / "torso" / name).write_text(text, encoding="utf-8")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        return subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, timeout=300, env=environment, cwd=self.root
        )

    def ask(self, expression: str) -> str:
        done = self.run("-c", f"from torso.folders import *; from torso.folders import entry; print(({expression}))")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "torso", *words)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.parametrize("name", NAMES_OF_BEFORE)
def test_every_name_that_was_ever_listed_is_found(name: str) -> None:
    kind, _, short = name.partition(".")
    assert is_name(kind, short)
    found = find(name)
    current = folders.OLD_NAMES.get(name, name)
    assert qualified_name(found) == current
    assert current.partition(".")[2] in names(current.partition(".")[0])


def test_no_file_is_misfiled() -> None:
    assert not {kind: dict(refusals(kind)) for kind in KINDS if refusals(kind)}


def test_an_old_name_leads_to_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(folders.OLD_NAMES, "losses.unitbox", "losses.iou")
    monkeypatch.setitem(folders.OLD_NAMES, "losses.pyramid", "necks.fpn")
    assert find("losses.unitbox") is find("unitbox", "losses") is find("unitbox") is find("losses.iou")
    assert find("losses.pyramid") is find("necks.fpn")
    assert qualified_name(find("losses.unitbox")) == "losses.iou"
    assert "unitbox" not in names("losses")
    with pytest.raises(PartError, match="no loss is called 'unitbax'"):
        find("losses.unitbax")


def test_an_entry_says_the_whole_module() -> None:
    assert index("zoo")["fcos"].module == index("heads")["fcos"].module == "torso.zoo.fcos"
    assert index("losses")["giou"] == ("torso.training.losses.iou", "GIoULoss", index("losses")["giou"].line)
    assert "Generalised IoU" in index("losses")["giou"].line


def test_one_class_has_its_files_name_and_functions_beside_it_are_helpers(house: House) -> None:
    house.put("necks/squeeze.py", '"""A neck (Paper)."""\nclass Pressed: ...\nclass _Helper: ...\ndef helper(): ...')
    assert house.ask("entry('necks', 'squeeze')[1:]") == "('Pressed', 'A neck (Paper).')"
    assert house.ask("is_name('necks', 'helper')") == "False"


def test_several_classes_have_names_of_their_own(house: House) -> None:
    house.put(
        "training/losses/far_l2.py",
        '"""Far (Paper)."""\nclass FarL2Loss: ...\nclass NearLoss:\n    """Near."""\ndef helper(): ...',
    )
    assert (
        house.ask("entry('losses', 'near')")
        == "Entry(module='torso.training.losses.far_l2', symbol='NearLoss', line='Near.')"
    )
    # called as the file: it keeps the name that it had when it was alone there
    assert house.ask("entry('losses', 'far_l2')[1:]") == "('FarL2Loss', 'Far (Paper).')"
    assert house.ask("[n for n in ('helper', 'farl2') if is_name('losses', n)]") == "[]"


def test_functions_alone_are_a_family(house: House) -> None:
    house.put("backbones/sizes.py", '"""Sizes (Paper)."""\ndef a_s():\n    """Small."""\ndef a_l(): ...\ndef _h(): ...')
    house.put("backbones/b.py", 'def b():\n    """Plain."""\ndef b_spp():\n    """With a pyramid."""')
    assert house.ask("entry('backbones', 'a_s')[1:], entry('backbones', 'a_l')[1:]") == (
        "(('a_s', 'Small.'), ('a_l', 'Sizes (Paper).'))"
    )
    assert house.ask("entry('backbones', 'b')[1:], entry('backbones', 'b_spp')[1:]") == (
        "(('b', 'Plain.'), ('b_spp', 'With a pyramid.'))"
    )
    assert house.ask("[n for n in ('sizes', '_h') if is_name('backbones', n)]") == "[]"


def test_a_papers_classes_are_heads_and_its_functions_models(house: House) -> None:
    house.put(
        "zoo/paper.py",
        '"""Paper (2026)."""\nclass PaperHead:\n    """Its head."""\ndef paper(): ...\n'
        "def torchvision_model(): ...\ndef torchvision_to_torso(state): ...",
    )
    assert house.ask("entry('zoo', 'paper')[1:], entry('heads', 'paper')[1:]") == (
        "(('paper', 'Paper (2026).'), ('PaperHead', 'Its head.'))"
    )
    assert house.ask("[n for k in KINDS for n in names(k) if 'torchvision' in n]") == "[]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("LEVELS = 3\n", "heads/two.py has no public class and no public function"),
        ("class A(\n", "heads/two.py, line 1, is not Python"),
    ],
)
def test_a_misfiled_file_is_told_of_where_it_is_asked_for_and_nowhere_else(house: House, text: str, said: str) -> None:
    house.put("heads/two.py", text)
    assert house.ask("'fcos' in names('heads'), 'two' in names('heads')") == "(True, False)"
    for asked in (house.verb("parts", "heads.two"), house.verb("parts", "two")):
        assert asked.returncode == 2
        assert said in asked.stderr
    listed = house.verb("parts", "heads")
    assert listed.returncode == 0
    assert "fcos" in listed.stdout
    assert said in listed.stderr
    for other in (house.verb("parts", "heads.fcos"), house.verb("parts", "necks"), house.verb("show", "--help")):
        assert other.returncode == 0
        assert "two.py" not in other.stdout + other.stderr


def test_two_parts_of_one_name_are_refused_with_both_files(house: House) -> None:
    house.put("heads/fcos.py", '"""Another."""\nclass Another: ...')
    said = "heads.fcos is the name of Another in heads/fcos.py and FCOSHead in zoo/fcos.py"
    assert said in house.verb("parts", "heads.fcos").stderr
    assert said in house.verb("parts", "heads").stderr
    assert (
        house.ask("'fcos' in names('zoo'), 'fcos' in names('heads'), 'atss' in names('heads')") == "(True, False, True)"
    )


def test_a_paper_is_two_files(house: House) -> None:
    """The two of docs/adding_a_part.md: model, sizes, head and its criterion are there, and nothing else is touched."""
    page = (Path(__file__).parents[1] / "docs" / "adding_a_part.md").read_text(encoding="utf-8")
    files = re.findall(r"`src/torso/(\S+one_anchor\.py)`", page)
    texts = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if b.startswith(('"""One', '"""How One'))]
    assert files == ["zoo/one_anchor.py", "training/recipes/one_anchor.py"]
    for file, text in zip(files, texts, strict=True):
        house.put(file, text)
    commands = [["show", model, "--yaml", "--backbone=test_resnet"] for model in ("one_anchor", "fcos")]
    commands[1].append("--head=one_anchor")
    done = house.run("-c", f"from torso.cli.main import main; print([main(c) for c in {commands}])")
    assert done.stdout.endswith("[0, 0]\n"), done.stderr
    assert done.stdout.count("part: heads.one_anchor") == done.stdout.count("part: assigners.atss") == 2
    assert "--head one_anchor brings its own criterion, by which one_anchor is trained" in done.stderr
    assert "one square anchor a place" in house.verb("parts", "heads").stdout
    assert "OneAnchorHead" in house.verb("parts", "heads.one_anchor").stdout
