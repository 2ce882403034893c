"""A part from outside through every verb, in processes of their own: by --allow from the current folder, by its name
from an installed package, and without permission.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from data.builders import write_coco
from foreign.package import write_package

SOURCE = Path(__file__).parents[2] / "src"
SMALL_HEAD = "--head.coarsest=32 --head.channels=16 --head.tower=1"
TINY = f"--backbone=test_resnet {SMALL_HEAD} --input=letterbox --input.size_hw=64,96"
QUICK = "--steps=2 --batch-size=4 --warmup-steps=1 --accelerator=cpu --log-every=1"

# One process runs several verbs, as one that loads torch once; each prints its status.
_RUN = """
import sys
sys.path[:] = [p for p in sys.path if p not in ("", {here!r})]
from torso.cli.main import main
for line in {lines!r}:
    print("rc", main(line.split()), flush=True)
{more}
"""


def run(folder: Path, lines: list[str], *, path: tuple[Path, ...] = (), more: str = "") -> tuple[list[int], str, str]:
    """(exit status of each, standard output, standard error) of commands run in `folder`, which is not on the path."""
    script = _RUN.format(here=str(folder), lines=lines, more=more)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (SOURCE, *path)))}
    env.pop("TORSO_ALLOW", None)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    codes = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("rc ")]
    return codes, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    data = write_coco(root / "data", n_images=4)
    write_coco(data, n_images=2, seed=1, split="val")
    return root


@pytest.mark.slow
def test_a_part_of_the_current_folder_goes_through_every_verb(folder: Path) -> None:
    write_package(folder)
    train = f"train fcos --data data --out runs/a {TINY} {QUICK} --workers=1 --neck mypkg.parts:Squeeze"
    codes, out, err = run(
        folder,
        [
            f"{train} --augment mypkg.parts:Same --allow mypkg",
            "train --resume runs/a --allow mypkg",
            "eval runs/a --data data --allow mypkg --json",
            "predict runs/a data/images --out found --no-draw --allow mypkg",
            "train runs/a/recipe.yaml --data data --out runs/b --steps=1 --accelerator=cpu --workers=0 --allow mypkg",
            "show runs/a/recipe.yaml --allow mypkg",
            f"show fcos {TINY} --neck mypkg.parts:Squeeze --allow mypkg.parts",
            "show mypkg.parts:small --allow other,mypkg",
            "parts mypkg.parts:Squeeze",
        ],
    )
    assert codes == [0] * 9, err
    assert "part: mypkg.parts:Squeeze" in out
    assert "channels  int  = 16" in out
    codes, _, err = run(
        folder,
        [
            "train --resume runs/a",
            "eval runs/a --data data",
            "predict runs/a data/images --out found2",
            "show runs/a/recipe.yaml",
            "train runs/a/recipe.yaml --data data",
            "show fcos --neck mypkg.parts:Squeeze",
            "show mypkg.parts:small",
            "show fcos --backbone.block=mypkg.parts:Tint",
            "show fcos --neck mypkg.nowhere:Squeeze --allow mypkg",
            "show fcos --neck mypkg.parts:Squeeze --allow 3",
            "anchors data --model mypkg.parts:small",
        ],
        more="assert not [m for m in sys.modules if m.startswith('mypkg.parts')], 'imported without permission'",
    )
    lines = err.strip().splitlines()
    assert codes == [2] * 11, err
    assert len(lines) == 11
    assert all("if you trust mypkg: add --allow mypkg" in line for line in [*lines[:8], lines[10]]), err
    assert not (folder / "found2").exists()
    assert "the module mypkg.nowhere, which is not there" in lines[8]


@pytest.mark.slow
def test_an_installed_package_is_known_by_name(folder: Path, tmp_path: Path) -> None:
    site = write_package(tmp_path / "site", installed=True)
    names = ["parts necks", "parts necks.squeeze", "parts zoo --json", "parts", "train --help"]
    codes, out, _ = run(
        folder,
        names,
        path=(site,),
        more="assert not [m for m in sys.modules if m.startswith('mypkg') or m == 'torch'], 'reading names imported'",
    )
    assert codes == [0] * 5
    assert "Every level in one width, by a 1x1 convolution. (mypkg)" in out
    assert "fpn of mypkg is hidden by torso's own; name it mypkg.parts:Squeeze" in out
    assert "necks.squeeze  (mypkg.parts:Squeeze of mypkg)" in out
    assert '"small": "A small FCOS. (mypkg)"' in out
    codes, out, err = run(
        folder,
        [
            f"train fcos --data data --out runs/a {TINY} {QUICK} --workers=0 --neck squeeze --neck.channels=8",
            "train --resume runs/a",
            "eval runs/a --data data --json",
            "predict runs/a data/images --out found --no-draw",
            "show runs/a/recipe.yaml",
            f"show small {TINY}",
            "show fcos --neck mypkg.parts:Squeeze --neck.channels=8 --head.finest=8 --head.coarsest=32",
        ],
        path=(site,),
        more="import torso; print(torso.load('runs/a/model.safetensors').neck[0])",
    )
    assert codes == [0] * 7, err
    assert "part: mypkg.parts:Squeeze" in out
    assert "Squeeze(" in out
    codes, _, err = run(folder, ["eval runs/a --data data", "show fcos --neck squeeze"])
    assert codes == [2, 2]
    assert "runs/a/model.safetensors: 'mypkg.parts:Squeeze' lies outside torso" in err
    assert "no neck is called 'squeeze'" in err
