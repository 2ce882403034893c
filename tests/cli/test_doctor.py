"""`torso doctor`: the report on standard output, the exit status says whether training may start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.commands import Command
from data.builders import change


def test_a_good_set_may_be_trained_on(torso: Command, data: Path) -> None:
    done = torso("doctor", data)
    assert done.code == 0
    assert "Training may start." in done.out
    assert done.err == ""


def test_json_holds_everything(torso: Command, data: Path) -> None:
    report = json.loads(torso("doctor", data, "--json", "--split", "val").out)
    assert report["may_train"] is True
    assert list(report["splits"]) == ["val"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda c: c["images"][0].update(file_name="../../etc/passwd"), "leaves the image folder"),
        (lambda c: c["images"].clear(), "no image"),
        (lambda c: c["annotations"].clear(), "no box is left to learn from"),
        (lambda c: c["annotations"][0].update(category_id=99), "99"),
    ],
    ids=["leaves the root", "no images", "no boxes", "unknown category"],
)
def test_a_bad_set_may_not(torso: Command, tmp_path: Path, fault: object, said: str) -> None:
    from data.builders import write_coco

    root = write_coco(tmp_path / "bad")
    change(root / "train.json", fault)  # type: ignore[arg-type]
    for command in (("doctor", root), ("train", "fcos", "--data", root, "--out", tmp_path / "run")):
        done = torso(*command)
        assert done.code == 1
        assert said in done.out + done.err
        assert "Traceback" not in done.out + done.err
    assert not (tmp_path / "run").exists()


def test_a_missing_folder(torso: Command) -> None:
    done = torso("doctor", "/nowhere/at/all")
    assert done.code == 2
    assert "/nowhere/at/all: no such folder" in done.sentence


def test_a_folder_without_a_data_set(torso: Command, tmp_path: Path) -> None:
    done = torso("doctor", tmp_path)
    assert done.code == 1
    assert "no data set was found" in done.out


@pytest.mark.parametrize("share", ["1", "-0.1", "nan"])
def test_a_share_that_leaves_nothing_is_refused(torso: Command, data: Path, share: str) -> None:
    done = torso("doctor", data, f"--holdout={share}")
    assert done.code == 2
    assert "expected a number above 0 and below 1" in done.sentence
